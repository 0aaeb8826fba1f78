//! The tokens by which the poller names sockets: the highest one is the waker's, those below it are the listeners', and the
//! rest alternate between connections and subscribers.

pub use mio::Token;

use crate::config::MAX_LISTENERS;

/// The waker's token.
pub(crate) const WAKER: Token = Token(usize::MAX);

/// The listeners for clients, and the one for the administration.
const LISTENER_TOKENS: usize = MAX_LISTENERS + 1;

/// What a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketKey {
    /// A listener, by its index.
    Listener(usize),
    /// A connection, by its key in the worker's slab.
    Connection(usize),
    /// A subscriber, by its key in the worker's slab.
    Subscriber(u32),
}

impl SocketKey {
    /// Returns the token that names this socket.
    pub(crate) fn token(self) -> Token {
        match self {
            Self::Listener(index) => Token(WAKER.0 - 1 - index),
            Self::Connection(key) => Token(key << 1),
            Self::Subscriber(key) => Token((key as usize) << 1 | 1),
        }
    }

    /// Returns what a token names.
    pub(crate) fn of(token: Token) -> Self {
        match WAKER.0.wrapping_sub(1).wrapping_sub(token.0) {
            index if index < LISTENER_TOKENS => Self::Listener(index),
            _ if token.0 & 1 == 0 => Self::Connection(token.0 >> 1),
            _ => Self::Subscriber((token.0 >> 1) as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_the_socket_it_was_made_of() {
        let listeners = (0..LISTENER_TOKENS).map(SocketKey::Listener);
        let connections = [0, 1, 1 << 40].map(SocketKey::Connection);
        let subscribers = [0, 1, u32::MAX].map(SocketKey::Subscriber);
        for key in listeners.chain(connections).chain(subscribers) {
            assert_eq!(SocketKey::of(key.token()), key);
            assert_ne!(key.token(), WAKER);
        }
    }
}
