# `make` builds and starts a broker, `make cluster` starts three behind a load balancer (it installs Redis and HAProxy), `make client`
# starts the demo, `make test` runs all tests (it installs programs; see scripts/test --help).

.PHONY: broker client cluster fast test

broker:
	scripts/run

# A broker of the sources as they are now, compiled sooner and a little slower than a release.
fast:
	cargo run --profile fast -- --no-auth

cluster:
	scripts/cluster

client:
	cd scripts/demo && npm ci --ignore-scripts --no-audit --no-fund && npm run dev

test:
	scripts/test
