package raftfsm

import (
	"context"
	"net"
	"time"
)

// deadAfter is after how long the connection of a dead host ends, and with it its claim on a name (keepAlive, limitUnacked).
const deadAfter = 8 * time.Second

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3}

// listener opens the port.
func listener(ctx context.Context, addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive, Control: limitUnacked}
	return lc.Listen(ctx, "tcp", addr)
}

// dialer is TCP, unless the options have another.
func dialer(opt Options) func(ctx context.Context, addr string) (net.Conn, error) {
	if opt.Dial != nil {
		return opt.Dial
	}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		return (&net.Dialer{KeepAliveConfig: keepAlive, Control: limitUnacked}).DialContext(ctx, "tcp", addr)
	}
}
