# What a person can do here. The work is done by scripts/ and the programs.
.PHONY: run build test test-all test-aws test-packages lint fuzz soak soak-restore chaos chaos-farm bench bench-backup bench-micro demo-wordpress deb clean go

# FLAGS go to "scaler up": make run FLAGS="--port 3307"
run: build
	@scripts/install-packages mariadb-server mariadb-backup mariadb-client
	@scripts/run $(FLAGS)

build: go
	@[ -x bin/scaler ] || echo "building the programs; the first time that takes a minute or two"
	@mkdir -p bin
	@go build -o bin/ ./proxy ./sidecar ./scaler

go:
	@command -v go >/dev/null || { echo "Go 1.26 or newer is missing: https://go.dev/dl/" >&2; exit 1; }

# PACKAGES limits it: make test PACKAGES=./proxy/...
test: go
	@scripts/test $(PACKAGES)

# With those that take long: the suite of a driver, the farm's tests on MySQL, memory and
# stores at size.
test-all: go
	@scripts/test --all $(PACKAGES)

# The contract of providers on a real account of AWS: see docs/AWS.md for what must be
# set, what it costs (some cents) and how to see that nothing is left.
test-aws: go
	@go test -v -count=1 -timeout 40m -run 'TestRealAccount$$' ./scaler/internal/provider/aws -aws.real

lint: go
	@scripts/lint

# Every fuzz target for FUZZTIME.
FUZZTIME ?= 30s
fuzz: go
	@scripts/fuzz $(FUZZTIME)

# Sessions at random, on a server directly and through the proxy, where they have
# to share too few server connections, for SOAKTIME,
# from a new SEED each time; every packet is compared. A difference is reduced
# and printed with the seed that shows it again.
SOAKTIME ?= 30m
SEED ?= $(shell date +%s)
soak: go
	@scripts/install-packages mariadb-server
	@FARMHAND_DIFFERENTIAL_TIME=$(SOAKTIME) FARMHAND_DIFFERENTIAL_SEED=$(SEED) \
		go test -v -count=1 -timeout 0 -run 'TestSessionsThatShareConnectionsAreAnsweredAsDirectly$$' ./proxy/internal/differential

# Restores to 20 moments at random of a ledger that was written over two failovers, and
# with ten faults in each stage of a restore; of MySQL, too, where there is one.
soak-restore: go
	@scripts/install-packages mariadb-server mariadb-backup mariadb-client
	@go test -v -count=1 -timeout 0 -run 'TestRestores(OfMySQL)?$$' ./sidecar/internal/drill -exact.points 20 -exact.faults 10

# A full backup against "mariadb-backup | zstd", in turns: how fast, and what of the
# processors; 2 minutes.
bench-backup: go
	@scripts/install-packages mariadb-server mariadb-backup zstd
	@go test -run '^$$' -bench FullBackup -benchtime 5x -timeout 0 ./sidecar/internal/backup

# Clients of two proxies on a farm whose servers, proxies and links fail all the
# time; every answer is checked. CHAOSFLAGS: -chaos.seed N, -chaos.flavor MySQL,
# -chaos.semisync, -chaos.race (proxies with the race detector). What went wrong is kept in
# bin/chaos with its seed and history.
CHAOSTIME ?= 30m
chaos: go
	@scripts/install-packages mariadb-server
	@mkdir -p bin/chaos
	@go test -v -count=1 -timeout 0 -run 'TestChaos$$' ./internal/checker -chaos.time $(CHAOSTIME) -chaos.out $(CURDIR)/bin/chaos $(CHAOSFLAGS)

# A whole farm of the real programs in network namespaces, under load, with every
# fault that docs/GUARANTEES.md lists; about 6 minutes, as root. What a farm logged whose
# test failed is kept in bin/chaos.
chaos-farm: go
	@scripts/install-packages mariadb-server mariadb-backup mariadb-client iproute2
	@mkdir -p bin/chaos
	@go test -v -count=1 -timeout 0 ./internal/farmchaos -farm.all -farm.out $(CURDIR)/bin/chaos $(CHAOSFLAGS)

# The proxy against direct connections and haproxy, about 25 minutes, with a table
# and the acceptance criteria; docs/PERFORMANCE.md explains them. BENCHFLAGS:
# -quick (4 minutes), -only REGEX, -vs BINARY, -compare, -markdown, -levels.
bench: build
	@scripts/install-packages mariadb-server sysbench haproxy
	@go run ./bench $(BENCHFLAGS)

# The Go benchmarks of the working tree and of the last release (BASE=REV: of
# where the work parted from REV) in turns, compared by benchstat; 3 minutes.
bench-micro: go
	@scripts/bench-micro

# Unmodified WordPress on a farm of this machine, ready in a browser. FLAGS:
# bin/demo-wordpress --help; what comes after -- goes to "scaler up".
demo-wordpress: build
	@demo/wordpress $(FLAGS)

# A Debian package and an RPM of static programs, in bin/packages. VERSION: of the
# packages (default: from git).
deb: go
	@scripts/package

# Both, installed: the one into a plain Debian in a chroot, the other into a directory
# with nothing else; as root, about 3 minutes.
test-packages: go
	@scripts/install-packages debootstrap rpm
	@scripts/test-packages

clean:
	rm -rf bin
	@echo "the farm's data in .farm is kept; remove it by hand"
