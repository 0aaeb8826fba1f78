# `make` builds and starts a broker, `make client` starts the demo, `make test` runs all tests (it installs programs; see
# scripts/test --help).

.PHONY: broker client test

broker:
	scripts/run

client:
	cd scripts/demo && npm ci --ignore-scripts --no-audit --no-fund && npm run dev

test:
	scripts/test
