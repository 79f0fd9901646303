package registry

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"farmhand/internal/pki"
)

// TestNodeWritesItsOwnOnly: what a node's certificate can do, and all that it
// cannot.
func TestNodeWritesItsOwnOnly(t *testing.T) {
	c := one(t)
	farm := newFarm()
	ctx := soonContext(t)
	admin := c.admin(t, farm)
	web, db := farm+"-web", farm+"-db"
	must(t, admin.allowNode(ctx, web))
	must(t, admin.allowNode(ctx, db))
	must(t, admin.allowNode(ctx, web)) // as after an attempt that broke off
	node := c.as(t, farm, web)
	terms, _ := led(t, admin, "a")
	term := soon(t, terms, "term")
	_, err := admin.RaiseEpoch(ctx, term, "shop", 0)
	must(t, err)
	for _, key := range []string{admin.keys.session(db), admin.keys.ordersTree(web) + "1", admin.keys.ordersTree(db) + "1"} {
		_, err := admin.etcd.Put(ctx, key, "{}")
		must(t, err)
	}
	lease, err := admin.etcd.Grant(ctx, 60)
	must(t, err)
	_, err = admin.etcd.Put(ctx, admin.keys.session(db), "{}", clientv3.WithLease(lease.ID))
	must(t, err)

	k := admin.keys
	other := farmKeys(farm + "x")
	put := func(key string, opts ...clientv3.OpOption) func() error {
		return func() error { _, err := node.etcd.Put(ctx, key, "x", opts...); return err }
	}
	get := func(key string, opts ...clientv3.OpOption) func() error {
		return func() error { _, err := node.etcd.Get(ctx, key, opts...); return err }
	}
	del := func(key string, opts ...clientv3.OpOption) func() error {
		return func() error { _, err := node.etcd.Delete(ctx, key, opts...); return err }
	}
	tree := clientv3.WithPrefix()
	for _, try := range []struct {
		what    string
		do      func() error
		allowed bool
	}{
		{"write its membership", put(k.session(web)), true},
		{"write its health", put(k.healthTree(web) + "load"), true},
		{"write its journal", put(k.nodeJournal(web) + "1"), true},
		{"read the members", get(k.members(), tree), true},
		{"read the epoch", get(k.epoch("shop")), true},
		{"read its orders", get(k.ordersTree(web), tree), true},
		{"read where the control nodes are", get(k.scalers(), tree), true},
		{"read an assignment", get(k.clusters() + "shop/assignment"), true},
		{"remove its membership", del(k.memberTree(web), tree), true},

		{"write another's membership", put(k.session(db)), false},
		{"write what looks like its own", put(k.members() + web + "2/session"), false},
		{"write another's health", put(k.healthTree(db) + "load"), false},
		{"write another's journal", put(k.nodeJournal(db) + "1"), false},
		{"write its orders", put(k.ordersTree(web) + "1"), false},
		{"write the epoch", put(k.epoch("shop")), false},
		{"write a topology", put(k.clusters() + "shop/topology"), false},
		{"pose as a control node", put(k.scaler("scaler-9")), false},
		{"ask for an operation", put(k.operations() + "1"), false},
		{"read the operations", get(k.operations(), tree), false},
		{"write what the scalers keep", put(k.root + "control/view"), false},
		{"read what the scalers keep", get(k.root + "control/view"), false},
		{"read another's health", get(k.healthTree(db) + "load"), false},
		{"lead", put(k.leader() + "/1"), false},
		{"write a decision", put(k.controlJournal() + "1"), false},
		{"admit a node", put(k.node(farm + "-x")), false},
		{"make a token", put(k.token("0123456789abcdef")), false},
		{"write another farm's", put(other.session(web)), false},
		{"put its key under another's lease", put(k.session(web), clientv3.WithLease(lease.ID)), false},
		{"remove another's membership", del(k.memberTree(db), tree), false},
		{"remove all members", del(k.members(), tree), false},
		{"remove all there is", del("", tree), false},
		{"end another's lease", func() error { _, err := node.etcd.Revoke(ctx, lease.ID); return err }, false},
		{"read another's orders", get(k.ordersTree(db), tree), false},
		{"read the tokens of control nodes", get(k.root+"controltokens/", tree), false},
		{"read the tokens", get(k.root+"tokens/", tree), false},
		{"read the journal", get(k.journal(), tree), false},
		{"read all there is", get("", tree), false},
		{"write in a transaction that reads what it may", func() error {
			_, err := node.etcd.Txn(ctx).Then(clientv3.OpGet(k.members(), tree), clientv3.OpPut(k.epoch("shop"), "9")).Commit()
			return err
		}, false},
		{"find out by a comparison", func() error {
			_, err := node.etcd.Txn(ctx).If(clientv3.Compare(clientv3.Value(k.token("0123456789abcdef")), "=", "x")).Commit()
			return err
		}, false},
		{"give itself a role", func() error { _, err := node.etcd.UserGrantRole(ctx, web, Administrator); return err }, false},
		{"add a user", func() error { _, err := node.etcd.UserAdd(ctx, "x", "x"); return err }, false},
		{"switch access control off", func() error { _, err := node.etcd.AuthDisable(ctx); return err }, false},
		{"add a member to etcd", func() error { _, err := node.etcd.MemberAdd(ctx, []string{"https://127.0.0.1:1"}); return err }, false},
	} {
		err := node.failed(try.do(), "%s", try.what)
		switch {
		case try.allowed && err != nil:
			t.Errorf("the node cannot %s: %v", try.what, err)
		case !try.allowed && !errors.Is(err, ErrDenied):
			t.Errorf("the node can %s, or it fails otherwise: %v", try.what, err)
		}
	}
	// The same by the means of this package.
	for what, err := range map[string]error{
		"raise":   func() error { _, err := node.RaiseEpoch(ctx, term, "shop", 1); return err }(),
		"hold":    node.HoldMembership(ctx, Member{Name: db}, MinLease, nil, func(Holding) {}),
		"lead":    node.Lead(ctx, "x", MinLease, func(context.Context, Term) error { return nil }),
		"expel":   node.Expel(ctx, db, 0),
		"token":   func() error { _, _, _, err := node.AddToken(ctx, "web", "x", MaxToken); return err }(),
		"ask":     func() error { _, err := node.Ask(ctx, Operation{Kind: "switchover"}); return err }(),
		"reports": node.WatchReports(ctx, func(ReportsView) error { return nil }),
		"control": func() error {
			r, err := ControlRecord("view")
			must(t, err)
			return node.Watch(ctx, r, func(Value) error { return nil })
		}(),
		"write": func() error {
			r, err := ClusterRecord("shop", "assignment")
			must(t, err)
			return node.Write(ctx, term, r, []byte("x"))
		}(),
		"watch": node.FollowEntries(ctx, 0, func(Entry) error { return nil }, nil),
	} {
		if !errors.Is(err, ErrDenied) {
			t.Errorf("%s as a node: %v", what, err)
		}
	}
	if epoch, err := admin.Epoch(ctx, "shop"); err != nil || epoch != 1 {
		t.Errorf("the epoch is %d, %v", epoch, err)
	}
	// A membership, as a node.
	views := watched(t, node)
	_, leave := hold(t, node, Member{Name: web, Role: "web"})
	until(t, views, "view with both nodes", are(db, web))
	must(t, leave())
	// One whom the farm's authority has certified, but who was never admitted.
	stranger := c.as(t, farm, farm+"-stranger")
	if _, err := stranger.Members(ctx); !errors.Is(err, ErrDenied) {
		t.Errorf("a stranger reads the members: %v", err)
	}
}

// TestStrangersAreNotHeard: without a certificate of the farm there is no
// conversation.
func TestStrangersAreNotHeard(t *testing.T) {
	c := one(t)
	other := newCluster(t, 1)
	files := other.files(t, Administrator, nil) // was made by newCluster
	files.Authority = pki.In(c.dir+"/keys/"+Administrator, "ca").Certificate
	stranger, err := Open(Options{Farm: "test", Endpoints: c.endpoints(), Files: files})
	must(t, err)
	defer func() { must(t, stranger.Close()) }()
	if err := stranger.Ping(soonContext(t)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the administrator of another farm: %v", err)
	}
	// What etcd's client keeps to itself.
	if err := stranger.Diagnose(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("diagnosed: %v", err)
	}
	admin := other.admin(t, "test")
	if err := admin.Diagnose(t.Context()); err != nil {
		t.Errorf("diagnosed where all is well: %v", err)
	}
	other.stop(0)
	if err := admin.Diagnose(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("diagnosed where nobody listens: %v", err)
	}
}

// TestExpelledNode: from one moment to the next it can do nothing, and nobody
// gets its name.
func TestExpelledNode(t *testing.T) {
	c := one(t)
	farm := newFarm()
	ctx := soonContext(t)
	admin := c.admin(t, farm)
	name := farm + "-web"
	join := func() error {
		id, secret, a, err := admin.AddToken(ctx, "web", name, MaxToken)
		must(t, err)
		_, err = admin.SpendToken(ctx, id, secret, name, a.Expires.Add(-MaxToken/2))
		return err
	}
	must(t, join())
	node := c.as(t, farm, name)
	ended := make(chan error, 1)
	running(t, func(ctx context.Context) error {
		err := node.HoldMembership(ctx, Member{Name: name, Role: "web"}, MinLease, nil, func(Holding) {})
		ended <- err
		return err
	})
	views := watched(t, admin)
	until(t, views, "view with the node", are(name))
	must(t, admin.Expel(ctx, name, pki.NodeLife))
	until(t, views, "view without it", are())
	if err := soon(t, ended, "end of its membership"); !errors.Is(err, ErrDenied) {
		t.Errorf("its membership ended with %v", err)
	}
	if _, err := node.Members(ctx); !errors.Is(err, ErrDenied) {
		t.Errorf("it still reads: %v", err)
	}
	if _, err := admin.Node(ctx, name); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("it is on record: %v", err)
	}
	if err := join(); !errors.Is(err, ErrNameTaken) {
		t.Errorf("its name was given away: %v", err)
	}
	if _, err := node.Members(ctx); !errors.Is(err, ErrDenied) {
		t.Errorf("the attempt gave it its rights back: %v", err)
	}
	must(t, admin.Expel(ctx, name, 0)) // again, and the name is free
	must(t, join())
	if err := admin.Expel(ctx, farm+"-nobody", 0); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("expelled who is none: %v", err)
	}
	nodes, err := admin.Nodes(ctx)
	must(t, err)
	if !slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == name && n.Role == "web" && n.Expelled.IsZero() }) {
		t.Errorf("the nodes are %+v", nodes)
	}
}
