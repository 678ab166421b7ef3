# Targets for people; the work is in tests/ and cargo.
.PHONY: all build demo test lint pure store packages packages-zfs crash crash-zfs zfs zfs-core machine fuzz bench install install-zones uninstall deps

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
TIME ?= 60
SEED ?= 1
BIN = target/release/bootenv
ETC = /etc
UNITS = $(PREFIX)/lib/systemd/system
# The units of zones, and what answers at the sockets.
ZONE_UNITS = $(wildcard zones/*.socket zones/*.service)
# Where libzypp looks for plugins, whatever PREFIX is.
ZYPP = /usr/lib/zypp/plugins

all: build

# Debian packages: what the build, the tool and each lane need.
BUILD_DEPS = gcc libc6-dev libclang-dev
RUN_DEPS = btrfs-progs grub-common grub-efi-amd64-bin
TEST_DEPS = acl attr systemd-boot-efi mandoc strace procps python3-minimal util-linux xz-utils zstd e2fsprogs
MACHINE_DEPS = qemu-system-x86 qemu-utils python3-pip ovmf mtools dosfstools mmdebstrap fdisk debian-archive-keyring
BENCH_DEPS = snapper rsync systemd-container

# Installs what is missing, and asks the network only then.
deps:
	@tests/install-deps $(BUILD_DEPS) $(RUN_DEPS) $(EXTRA_DEPS)

build: deps
	$(CARGO) build --release --locked

demo:
	@$(MAKE) --no-print-directory build EXTRA_DEPS="mmdebstrap debian-archive-keyring"
	@tests/demo $(BIN)

test:
	@$(MAKE) --no-print-directory deps EXTRA_DEPS="$(TEST_DEPS) $(MACHINE_DEPS)"
	@tests/run-lanes lint pure store packages crash machine zfs-core

lint pure store packages packages-zfs crash crash-zfs zfs zfs-core machine:
	@$(MAKE) --no-print-directory deps EXTRA_DEPS="$(TEST_DEPS) $(MACHINE_DEPS)"
	@tests/run-lanes $@

# Calls put together by chance at a zone's socket, for TIME seconds, from SEED on.
fuzz:
	@$(MAKE) --no-print-directory deps EXTRA_DEPS="$(TEST_DEPS)"
	BOOTENV_FUZZ_SECONDS=$(TIME) BOOTENV_FUZZ_SEED=$(SEED) $(CARGO) test --locked --test store -- zone_fuzz --nocapture

bench:
	@$(MAKE) --no-print-directory deps EXTRA_DEPS="$(BENCH_DEPS) $(MACHINE_DEPS)"
	$(CARGO) bench --locked --bench side_by_side
	$(CARGO) bench --locked --bench on_zfs

install: build install-zones
	install -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/sbin/bootenv
	install -d $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 0644 man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	install -D -m 0644 src/varlink/io.bootenv.varlink $(DESTDIR)$(PREFIX)/share/varlink/io.bootenv.varlink
	install -D -m 0644 man/bootenv.toml.5 $(DESTDIR)$(PREFIX)/share/man/man5/bootenv.toml.5
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(BIN) completions bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/bootenv
	$(BIN) completions zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_bootenv
	$(BIN) completions fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/bootenv.fish
	install -D -m 0644 src/package/hooks/apt.conf $(DESTDIR)$(ETC)/apt/apt.conf.d/80bootenv
	install -D -m 0644 src/package/hooks/pacman.hook $(DESTDIR)$(ETC)/pacman.d/hooks/80-bootenv.hook
	install -D -m 0644 src/package/hooks/dnf5.actions $(DESTDIR)$(ETC)/dnf/libdnf5-plugins/actions.d/bootenv.actions
	install -D -m 0644 src/package/hooks/dnf4.action $(DESTDIR)$(ETC)/dnf/plugins/pre-transaction-actions.d/bootenv.action
	install -D -m 0755 src/package/hooks/zypp $(DESTDIR)$(ZYPP)/commit/bootenv
	install -D -m 0755 src/package/hooks/apk $(DESTDIR)$(ETC)/apk/commit_hooks.d/bootenv
	install -D -m 0755 src/loader/kernel-hook $(DESTDIR)$(ETC)/kernel/postinst.d/zz-bootenv
	install -D -m 0755 src/loader/kernel-hook $(DESTDIR)$(ETC)/kernel/postrm.d/zz-bootenv
	install -D -m 0755 src/loader/kernel-hook $(DESTDIR)$(ETC)/initramfs/post-update.d/zz-bootenv

# What starts zones: nothing has to be enabled.
install-zones:
	install -D -m 0644 zones/systemd-nspawn@.service.d.conf $(DESTDIR)$(UNITS)/systemd-nspawn@.service.d/bootenv.conf
	install -m 0644 $(ZONE_UNITS) $(DESTDIR)$(UNITS)/
	install -d $(DESTDIR)$(UNITS)/multi-user.target.wants
	ln -sfn ../bootenv-zones.service $(DESTDIR)$(UNITS)/multi-user.target.wants/bootenv-zones.service

uninstall:
	rm -f $(addprefix $(DESTDIR)$(UNITS)/,systemd-nspawn@.service.d/bootenv.conf multi-user.target.wants/bootenv-zones.service \
	    $(notdir $(ZONE_UNITS))) \
	    $(DESTDIR)$(PREFIX)/share/varlink/io.bootenv.varlink
	rm -f $(DESTDIR)$(PREFIX)/sbin/bootenv $(addprefix $(DESTDIR)$(PREFIX)/share/man/man8/,$(notdir $(wildcard man/*.8))) \
	    $(DESTDIR)$(PREFIX)/share/man/man5/bootenv.toml.5 \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions/bootenv \
	    $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_bootenv \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/bootenv.fish \
	    $(DESTDIR)$(ETC)/apt/apt.conf.d/80bootenv $(DESTDIR)$(ETC)/pacman.d/hooks/80-bootenv.hook \
	    $(DESTDIR)$(ETC)/dnf/libdnf5-plugins/actions.d/bootenv.actions $(DESTDIR)$(ETC)/apk/commit_hooks.d/bootenv \
	    $(DESTDIR)$(ETC)/dnf/plugins/pre-transaction-actions.d/bootenv.action $(DESTDIR)$(ZYPP)/commit/bootenv \
	    $(DESTDIR)$(ETC)/kernel/postinst.d/zz-bootenv $(DESTDIR)$(ETC)/kernel/postrm.d/zz-bootenv \
	    $(DESTDIR)$(ETC)/initramfs/post-update.d/zz-bootenv
