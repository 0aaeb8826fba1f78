# A container image that holds one static binary and nothing else, run as an unprivileged user.
#   docker build -t esker . && docker run -p 3000:3000 -v esker:/data -e ESKER_NO_AUTH=1 esker
# Any image with Rust 1.89 or later, bash, make and a C compiler can build it: --build-arg RUST=…
ARG RUST=docker.io/library/rust:1-bookworm

FROM ${RUST} AS build
WORKDIR /esker
# Dependencies first: they change rarely, so this layer stays cached.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY scripts/build-static scripts/
COPY scripts/lib scripts/lib
# Cargo needs the manifests of the whole workspace.
COPY tests/disk tests/disk
RUN mkdir src && echo 'fn main() {}' >src/main.rs && touch src/lib.rs && scripts/build-static && rm -r src
COPY src src
COPY README.md .
# Cargo compares modification times, and the copied files may be older than what was just built.
RUN touch src/main.rs src/lib.rs && scripts/build-static && \
    mkdir -p /usr/bin /data && cp target/static/esker /usr/bin/esker

# scripts/image builds only this stage, from what scripts/package has built: --build-context build=target/package/image
FROM scratch
LABEL org.opencontainers.image.title="Esker" \
      org.opencontainers.image.description="A server-sent-events broker" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /usr/bin/esker /usr/bin/esker
# A new volume starts as a copy of this directory, with the same owner.
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
WORKDIR /data
VOLUME /data
ENV ESKER_BIND=0.0.0.0 ESKER_DATA=/data
EXPOSE 3000
# Checks liveness, because a full disk must not cause a restart that ends all streams. The check finds the broker through the
# container's variables; if you set the address with options, pass it (esker health --live 127.0.0.1:80).
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/bin/esker", "health", "--live"]
ENTRYPOINT ["/usr/bin/esker"]
