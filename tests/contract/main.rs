//! The contract, word by word: black-box tests that start the real binary on a free port and speak
//! sockets to it. One module per behaviour; `support` knows how to start, ask and listen.

mod browser;
mod console;
mod cors;
mod docs;
mod ebb;
mod expiry;
mod faults;
mod flood;
mod forgeries;
mod health;
mod hostile;
mod http;
mod keys;
mod limits;
mod listening;
mod load;
mod manager;
mod metrics;
mod minting;
mod observe;
mod open;
mod patience;
mod proxies;
mod publish;
mod quotas;
mod recipes;
mod records;
mod resume;
mod running;
mod scale;
mod storage;
mod strangers;
mod subscribe;
mod support;
mod tokens;
