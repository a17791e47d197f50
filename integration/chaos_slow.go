package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// slowed is the interface by which a port hangs on the bridge while its wire is slow.
func slowed(port string) string { return port + "-s" }

// Slowness says how long a packet is under way on a slow wire.
type Slowness struct {
	In, Out time.Duration // to and from the port
	Jitter  time.Duration // at most that much more, drawn for each packet; no packet overtakes another
}

// Slow makes a port's wire slow until stop is called. Every frame passes through this process: tc's netem is not in
// every kernel. Connections that stand go on. The port is off the network for a moment at both ends.
func (n *Network) Slow(port string, by Slowness) (stop func() error, err error) {
	bridged, outer := slowed(port), port+"-t"
	if err := steps(
		[]string{"ip", "-n", n.sw, "link", "add", "name", bridged, "type", "veth", "peer", "name", outer},
		[]string{"ip", "-n", n.sw, "link", "set", "dev", bridged, "up"},
		[]string{"ip", "-n", n.sw, "link", "set", "dev", outer, "up"},
	); err != nil {
		return nil, err
	}
	sw, err := os.Open(netnsDir + "/" + n.sw)
	if err != nil {
		return nil, err
	}
	defer sw.Close()
	var host, bridge *os.File
	err = (&Namespace{name: n.sw, fd: sw}).Do(func() (err error) {
		if host, err = rawSocket(port); err != nil {
			return err
		}
		bridge, err = rawSocket(outer)
		return err
	})
	if err != nil {
		return nil, err
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { pump(host, bridge, by.Out, by.Jitter) })
	pumps.Go(func() { pump(bridge, host, by.In, by.Jitter) })
	stop = func() error {
		err := steps(
			[]string{"ip", "-n", n.sw, "link", "set", "dev", bridged, "nomaster"},
			[]string{"ip", "-n", n.sw, "link", "set", "dev", port, "master", "br0"},
		)
		err = errors.Join(err, host.Close(), bridge.Close())
		pumps.Wait()
		return errors.Join(err, command("ip", "-n", n.sw, "link", "delete", "dev", bridged))
	}
	return stop, steps(
		[]string{"ip", "-n", n.sw, "link", "set", "dev", port, "nomaster"},
		[]string{"ip", "-n", n.sw, "link", "set", "dev", bridged, "master", "br0"},
	)
}

// rawSocket reads and writes whole frames of an interface of the present namespace. With each comes its virtio header: it
// carries unfinished checksums and the sizes of segments, without which the receiver would drop what is sent on.
// Source: packet(7), PACKET_VNET_HDR and PACKET_IGNORE_OUTGOING.
func rawSocket(name string) (*os.File, error) {
	const everyProtocol = 0x0300 // htons(ETH_P_ALL)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, everyProtocol)
	if err != nil {
		return nil, fmt.Errorf("packet socket of %s: %w", name, err)
	}
	link, err := interfaceIndex(fd, name)
	if err == nil {
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &unix.PacketMreq{Ifindex: int32(link), Type: unix.PACKET_MR_PROMISC}),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everyProtocol, Ifindex: link}),
		)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("packet socket of %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

func interfaceIndex(fd int, name string) (int, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request)
	return int(request.Uint32()), err
}

// frame is one packet on its way.
type frame struct {
	data []byte
	due  time.Time
}

// onTheWay bounds the frames on one slow wire; what comes on top is lost, as in a full queue of a switch.
const onTheWay = 4096

// maxFrame is a virtio header, an Ethernet header, and the largest segment that the kernel does not cut.
const maxFrame = 10 + 18 + 65536

// pump sends on what comes in, later, until a socket is closed.
func pump(from, to *os.File, delay, jitter time.Duration) {
	queue := make(chan frame, onTheWay)
	var sender sync.WaitGroup
	sender.Go(func() { deliver(queue, to) })
	buf := make([]byte, maxFrame)
	for {
		size, err := from.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			break
		}
		if err != nil {
			continue // the interface was down for a moment
		}
		due := time.Now().Add(delay)
		if jitter > 0 {
			due = due.Add(rand.N(jitter))
		}
		select {
		case queue <- frame{append([]byte(nil), buf[:size]...), due}:
		default:
		}
	}
	close(queue)
	sender.Wait()
}

// deliver sends each frame when it is due. A frame that cannot be sent is lost, as on any wire.
func deliver(queue <-chan frame, to *os.File) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for f := range queue {
		if left := time.Until(f.due); left > 0 {
			timer.Reset(left)
			<-timer.C
		}
		_, _ = to.Write(f.data)
	}
}
