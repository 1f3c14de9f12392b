// Command peer behaves on the wire and towards the API server as kube-vip does in ARP mode for Services, on the same elector: client-go's,
// with ReleaseOnCancel and the node's name as identity. Each LEASE=VIP,... argument is one election; its VIPs are bound while it leads.
//
// As there, in client-go's order: at SIGTERM the Lease is released first and the addresses go after that (OnStoppedLeading).
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"log"
	"net"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

var (
	node     = flag.String("node", "", "name of this node, the identity in Leases")
	nic      = flag.String("nic", "eth0", "NIC that VIPs are bound to")
	config   = flag.String("kubeconfig", "", "path of the kubeconfig")
	duration = flag.Duration("lease-duration", 5*time.Second, "vip_leaseduration")
	deadline = flag.Duration("renew-deadline", 3*time.Second, "vip_renewdeadline")
	retry    = flag.Duration("retry-period", time.Second, "vip_retryperiod")
)

func main() {
	flag.Parse()
	rest, err := clientcmd.BuildConfigFromFlags("", *config)
	if err != nil {
		log.Fatal(err)
	}
	rest.QPS, rest.Burst, rest.Timeout = 100, 250, 10*time.Second // pkg/k8s/client.go of kube-vip
	rest.ContentType = "application/json"                         // the embedded API server knows no protobuf
	client := kubernetes.NewForConfigOrDie(rest)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var elections sync.WaitGroup
	for _, arg := range flag.Args() { // NAMESPACE/LEASE=VIP,VIP
		lease, vips, _ := strings.Cut(arg, "=")
		namespace, name, _ := strings.Cut(lease, "/")
		elections.Add(1)
		go func() {
			defer elections.Done()
			for ctx.Err() == nil { // after a lost Lease kube-vip is restarted, or elects again
				elect(ctx, client, namespace, name, strings.Split(vips, ","))
			}
		}()
	}
	elections.Wait()
}

func elect(ctx context.Context, client kubernetes.Interface, namespace, name string, vips []string) {
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: *node},
		},
		ReleaseOnCancel: true,
		LeaseDuration:   *duration, RenewDeadline: *deadline, RetryPeriod: *retry,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				log.Printf("leads %s/%s", namespace, name)
				for _, vip := range vips {
					address("replace", vip, "preferred_lft", "0", "valid_lft", "forever")
				}
				announce(leading, vips)
			},
			OnStoppedLeading: func() {
				log.Printf("leads %s/%s no more", namespace, name)
				for _, vip := range vips {
					address("del", vip)
				}
			},
		},
	})
}

// address runs ip(8); a VIP that is not there to be removed is fine.
func address(verb, vip string, lifetime ...string) {
	prefix := map[bool]string{true: "/128", false: "/32"}[strings.Contains(vip, ":")]
	if out, err := exec.Command("ip", append([]string{"addr", verb, vip + prefix, "dev", *nic}, lifetime...)...).CombinedOutput(); err != nil {
		log.Printf("ip addr %s %s: %v: %s", verb, vip, err, out)
	}
}

// announce sends one gratuitous ARP reply per IPv4 VIP each 3 s until the context ends (vip_arpRate; the first one after 3 s, as there).
func announce(ctx context.Context, vips []string) {
	link, err := net.InterfaceByName(*nic)
	if err != nil {
		log.Fatal(err)
	}
	socket, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		log.Fatal(err)
	}
	defer syscall.Close(socket)
	everyone := &syscall.SockaddrLinklayer{Protocol: 0x0608, Ifindex: link.Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	for tick := time.NewTicker(3 * time.Second); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, vip := range vips {
				if ip := net.ParseIP(vip).To4(); ip != nil {
					frame := binary.BigEndian.AppendUint64(nil, 0x0001080006040002)
					for _, part := range [][]byte{link.HardwareAddr, ip, link.HardwareAddr, ip} {
						frame = append(frame, part...)
					}
					_ = syscall.Sendto(socket, frame, 0, everyone)
				}
			}
		}
	}
}
