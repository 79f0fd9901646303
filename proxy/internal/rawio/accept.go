package rawio

import "net"

// serve is Serve of any listener.
func serve(l net.Listener, take func(net.Conn)) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		take(conn)
	}
}
