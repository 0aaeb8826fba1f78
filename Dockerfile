# Esker as an image: one static binary and nothing else, run by a user without a name.
#   docker build -t esker . && docker run -p 3000:3000 -v esker:/data -e ESKER_NO_AUTH=1 esker
# Any image with Rust 1.89, bash, make and a C compiler builds it: --build-arg RUST=…
ARG RUST=docker.io/library/rust:1-bookworm

FROM ${RUST} AS build
WORKDIR /esker
# The dependencies first: what they are made of changes seldom, and their layer is kept.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY scripts/build-static scripts/
COPY scripts/lib scripts/lib
# Cargo wants to see the whole workspace.
COPY tests/disk tests/disk
RUN mkdir src && echo 'fn main() {}' >src/main.rs && touch src/lib.rs && scripts/build-static && rm -r src
COPY src src
COPY README.md .
# Cargo goes by times, and those of the copied files may be older than what was just built.
RUN touch src/main.rs src/lib.rs && scripts/build-static && \
    mkdir -p /usr/bin /data && cp target/static/esker /usr/bin/esker

# scripts/image makes this stage alone, of what scripts/package has built: --build-context build=target/package/image
FROM scratch
LABEL org.opencontainers.image.title="Esker" \
      org.opencontainers.image.description="A server-sent-events broker" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /usr/bin/esker /usr/bin/esker
# A new volume is this folder's copy, and belongs to the same user.
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
WORKDIR /data
VOLUME /data
ENV ESKER_BIND=0.0.0.0 ESKER_DATA=/data
EXPOSE 3000
# Whether it runs: what restarts a container must not end streams because a disk is full. It asks by the variables of the
# container; with options instead, say where (esker health --live 127.0.0.1:80).
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/bin/esker", "health", "--live"]
ENTRYPOINT ["/usr/bin/esker"]
