.PHONY: demo test check fuzz campaign bench doc
demo: ; @scripts/demo
test: ; @scripts/test
check: ; @scripts/check
fuzz: ; @scripts/fuzz
campaign: ; @scripts/campaign $(MINUTES)
bench: ; @scripts/bench
doc: ; @scripts/doc
