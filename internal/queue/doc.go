// Package queue is a queue of messages: SQS, or what speaks its protocol. It is the
// only place with the AWS SDK's SQS (docs/ROLES.md, worker and cron).
//
// Credentials come from where AWS's tools look for them, never from a queue's
// address. Without TLS only a loopback address is spoken to.
//
// It does not send again what may have been sent: [Queue.Send] says what is known
// ([ErrUnsent], [ErrUnsure]), and its caller, who knows what a second message would
// do, decides. Everything else is repeated a few times, since it can be.
package queue
