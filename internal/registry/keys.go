package registry

import "fmt"

// The keys of one farm, all below farmhand/FARM/:
//
//	members/NAME/session        who is there, as a Member; under the lease that the node renews
//	health/NAME/REPORT          what a node reports of itself, under a name
//	orders/NAME/...             what a node is asked to do; it may only read them
//	clusters/CLUSTER/epoch      the epoch of a database cluster, as a decimal number
//	clusters/CLUSTER/...        what else its nodes have to know, such as its assignment
//	control/NAME                what the scalers keep for each other, such as what the leader sees
//	operations/NUMBER           what an operator asks of the leader, and how far it is
//	leader/LEASE                the election of the scaler that decides; the first one's revision is the term
//	journal/control/TIME-NONCE  events and decisions, as the scalers tell them
//	journal/nodes/NAME/TIME-NONCE  what the node NAME tells
//	nodes/NAME                  a node that was admitted, or was and is banned
//	tokens/ID                   a token to join with: its hash and its bounds; under a lease
//	controltokens/ID            the same, for a control node
//	scalers/NAME                a control node: where it answers, and whether it has a vote
//
// A node writes below members/NAME/, health/NAME/ and journal/nodes/NAME/ and
// reads members/, clusters/, scalers/ and orders/NAME/; access.go grants just that. The rest
// is the scalers', who are the administrator.
type keys struct{ root string }

func farmKeys(farm string) keys { return keys{"farmhand/" + farm + "/"} }

func (k keys) members() string                { return k.root + "members/" }
func (k keys) memberTree(name string) string  { return k.members() + name + "/" }
func (k keys) session(name string) string     { return k.memberTree(name) + sessionKey }
func (k keys) healthTree(name string) string  { return k.root + "health/" + name + "/" }
func (k keys) healthTrees() string            { return k.root + "health/" }
func (k keys) report(name, of string) string  { return k.healthTree(name) + of }
func (k keys) operations() string             { return k.root + "operations/" }
func (k keys) ordersTree(name string) string  { return k.root + "orders/" + name + "/" }
func (k keys) clusters() string               { return k.root + "clusters/" }
func (k keys) epoch(cluster string) string    { return k.clusters() + cluster + "/epoch" }
func (k keys) leader() string                 { return k.root + "leader" } // the election adds /LEASE
func (k keys) journal() string                { return k.root + "journal/" }
func (k keys) controlJournal() string         { return k.journal() + "control/" }
func (k keys) nodeJournals() string           { return k.journal() + "nodes/" }
func (k keys) nodeJournal(name string) string { return k.nodeJournals() + name + "/" }
func (k keys) nodes() string                  { return k.root + "nodes/" }
func (k keys) node(name string) string        { return k.nodes() + name }
func (k keys) token(id string) string         { return k.root + "tokens/" + id }
func (k keys) controlToken(id string) string  { return k.root + "controltokens/" + id }
func (k keys) scalers() string                { return k.root + "scalers/" }
func (k keys) scaler(name string) string      { return k.scalers() + name }

const sessionKey = "session"

// nodeRole is the name of etcd's role for a node of the farm.
func nodeRole(farm, name string) string { return fmt.Sprintf("farmhand-%s-%s", farm, name) }
