# Says what Mail::DKIM thinks of every signature of the message on standard input, one result per line.
# The keys come from the file argv[0] ("record name, tab, TXT text" per line) and from nowhere else.
use strict;
use warnings;
use Mail::DKIM::Verifier;
use Mail::DKIM::DNS;
use Net::DNS;

my %records;
open(my $file, '<', $ARGV[0]) or die "$ARGV[0]: $!";
while (<$file>) {
    chomp;
    my ($name, $text) = split /\t/, $_, 2;
    $records{lc $name} = $text;
}
close $file;

package Stub {
    sub new { return bless {}, shift }
    sub errorstring { return 'NOERROR' }

    sub send {
        my (undef, $name, $type) = @_;
        my $packet = Net::DNS::Packet->new($name, $type);
        my $text = $records{lc $name};
        if (defined $text && uc $type eq 'TXT') {
            $packet->push(answer => Net::DNS::RR->new(owner => $name, type => 'TXT', txtdata => [unpack '(A250)*', $text]));
        }
        else { $packet->header->rcode('NXDOMAIN') }
        return $packet;
    }
}

package main;
Mail::DKIM::DNS::resolver(Stub->new);
my $verifier = Mail::DKIM::Verifier->new;
binmode STDIN;
while (<STDIN>) {
    s/\r?\n\z/\r\n/;
    $verifier->PRINT($_);
}
$verifier->CLOSE;
print $_->result, "\n" for $verifier->signatures;
