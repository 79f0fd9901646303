// Package enrol is how a machine becomes a node of a farm: the token that the
// operator carries to it, the exchange of the token for a certificate, and the
// directory in which a node keeps who it is.
//
// The token names the scaler's address and the fingerprint of the farm's
// authority, so that the machine knows whom it talks to before it tells the
// secret. The node's key never leaves the node.
package enrol
