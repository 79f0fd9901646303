package farmtest

import (
	"net/netip"
	"testing"

	"farmhand/internal/dbserver"
)

// Lead makes a replica a primary: it follows nobody and takes writes. What it
// has not received is lost.
func (s *Server) Lead(t testing.TB) {
	t.Helper()
	ctx, cancel := limit()
	defer cancel()
	if err := s.running().Lead(ctx); err != nil {
		t.Fatalf("farmtest: %s leads: %v", s.name, err)
	}
	s.follows = false
}

// Follow makes the server a replica of the one at source (host:port), by GTID,
// and returns when it follows.
func (s *Server) Follow(t testing.TB, source string) {
	t.Helper()
	address, err := netip.ParseAddrPort(source)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := limit()
	defer cancel()
	s.StopReplication(t)
	err = s.running().Follow(ctx, dbserver.Source{Address: address, User: Replicator.User, Password: Replicator.Password})
	if err == nil {
		s.follows = true
		err = s.running().AwaitFollowing(ctx)
	}
	if err != nil {
		t.Fatalf("farmtest: %s follows %s: %v", s.name, source, err)
	}
}
