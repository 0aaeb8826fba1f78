# The shortest ways: `make` starts a broker for trying things out, `make client` the demo beside it.

.PHONY: broker client test

broker:
	scripts/run

client:
	cd scripts/demo && npm ci --ignore-scripts --no-audit --no-fund && npm run dev

test:
	scripts/test
