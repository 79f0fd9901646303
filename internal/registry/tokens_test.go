package registry

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestTokenAdmitsOnce(t *testing.T) {
	c := one(t)
	farm := newFarm()
	ctx := soonContext(t)
	admin := c.admin(t, farm)
	id, secret, a, err := admin.AddToken(ctx, "web", farm+"-web-*", time.Hour)
	must(t, err)
	if left := time.Until(a.Expires); left < 59*time.Minute || left > time.Hour || a.Role != "web" {
		t.Errorf("the admission is %+v", a)
	}
	now := time.Now()
	// What does not fit leaves the token as it was.
	for what, try := range map[string]struct {
		id, secret, name string
		at               time.Time
		want             error
	}{
		"a wrong secret":          {id, strings.Repeat("0", len(secret)), farm + "-web-1", now, ErrTokenRefused},
		"no secret":               {id, "", farm + "-web-1", now, ErrTokenRefused},
		"its hash for its secret": {id, hash(secret), farm + "-web-1", now, ErrTokenRefused},
		"another token":           {"0123456789abcdef", secret, farm + "-web-1", now, ErrTokenRefused},
		"a path for an id":        {"../nodes/x", secret, farm + "-web-1", now, ErrTokenRefused},
		"another name":            {id, secret, farm + "-db-1", now, ErrTokenUnfit},
		"after its end":           {id, secret, farm + "-web-1", a.Expires, ErrTokenUnfit},
	} {
		if _, err := admin.SpendToken(ctx, try.id, try.secret, try.name, try.at); !errors.Is(err, try.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, name := range []string{"", "a/b", "root", "ROOT", "a b", "member:a", strings.Repeat("x", 65)} {
		if _, err := admin.SpendToken(ctx, id, secret, name, now); err == nil {
			t.Errorf("the name %q was accepted", name)
		}
	}
	// Only the hash of the secret is there.
	all, err := admin.etcd.Get(ctx, "", clientv3.WithPrefix())
	must(t, err)
	found := false
	for _, kv := range all.Kvs {
		if strings.Contains(string(kv.Value), secret) {
			t.Errorf("%s has the secret", kv.Key)
		}
		found = found || strings.Contains(string(kv.Value), hash(secret))
	}
	if !found {
		t.Error("the hash is nowhere, so the search proves nothing")
	}
	// Of many at a time, one is admitted.
	var admitted, refused atomic.Int32
	var tries sync.WaitGroup
	for i := range 10 {
		tries.Go(func() {
			_, err := admin.SpendToken(ctx, id, secret, farm+"-web-"+string(rune('a'+i)), now)
			switch {
			case err == nil:
				admitted.Add(1)
			case errors.Is(err, ErrTokenRefused):
				refused.Add(1)
			default:
				t.Errorf("attempt %d: %v", i, err)
			}
		})
	}
	tries.Wait()
	if admitted.Load() != 1 || refused.Load() != 9 {
		t.Errorf("%d admitted, %d refused", admitted.Load(), refused.Load())
	}
	nodes, err := admin.Nodes(ctx)
	must(t, err)
	if len(nodes) != 1 {
		t.Errorf("the nodes are %+v", nodes)
	}
}

func TestNameIsTakenOnce(t *testing.T) {
	c := one(t)
	farm := newFarm()
	ctx := soonContext(t)
	admin := c.admin(t, farm)
	name := farm + "-web"
	for i, want := range []error{nil, ErrNameTaken} {
		id, secret, _, err := admin.AddToken(ctx, "web", name, time.Hour)
		must(t, err)
		if _, err := admin.SpendToken(ctx, id, secret, name, time.Now()); !errors.Is(err, want) {
			t.Errorf("attempt %d: %v", i, err)
		}
	}
}

func TestTokenBounds(t *testing.T) {
	admin := one(t).admin(t, newFarm())
	for _, c := range []struct {
		role, names string
		life        time.Duration
	}{
		{"", "a", time.Hour},
		{"web/db", "a", time.Hour},
		{"web", "", time.Hour},
		{"web", "[", time.Hour},
		{"web", strings.Repeat("x", 65), time.Hour},
		{"web", "a", time.Second},
		{"web", "a", MaxToken + time.Second},
		{"web", "a", -time.Hour},
	} {
		if _, _, _, err := admin.AddToken(soonContext(t), c.role, c.names, c.life); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}
