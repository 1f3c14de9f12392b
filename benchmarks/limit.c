/* The limit that kvip is measured against: a sendmmsg loop over frames and headers prepared once.
 *
 *   limit NIC MAC VIPS FRAMES BATCH
 *
 * Sends FRAMES ARP frames (request and reply for each of VIPS addresses, round and round) in batches of BATCH
 * without blocking, then prints the rate in frames/s on CLOCK_MONOTONIC and its CPU time in us per frame. Fails on any error but a full queue.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#define FRAME_LEN 60

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu_s(void)
{
	struct rusage used;
	getrusage(RUSAGE_SELF, &used);
	return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void fill(unsigned char *frame, const unsigned char *mac, unsigned int vip, int reply)
{
	static const unsigned char head[] = {8, 6, 0, 1, 8, 0, 6, 4, 0};
	vip = htonl(vip);
	memset(frame, 0, FRAME_LEN);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, mac, 6);
	memcpy(frame + 12, head, sizeof head);
	frame[21] = reply ? 2 : 1;
	memcpy(frame + 22, mac, 6);
	memcpy(frame + 28, &vip, 4);
	if (reply)
		memcpy(frame + 32, mac, 6);
	memcpy(frame + 38, &vip, 4);
}

int main(int argc, char **argv)
{
	unsigned char mac[6];
	if (argc != 6 || sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6) {
		fprintf(stderr, "usage: limit NIC MAC VIPS FRAMES BATCH\n");
		return 2;
	}
	int vips = atoi(argv[3]), total = atoi(argv[4]), batch = atoi(argv[5]), ring = 2 * vips;
	if (vips < 1 || total < 1 || batch < 1) {
		fprintf(stderr, "limit: counts must be positive\n");
		return 2;
	}

	unsigned char *frames = malloc((size_t)ring * FRAME_LEN);
	struct iovec *vectors = calloc(ring, sizeof *vectors);
	struct mmsghdr *messages = calloc(ring, sizeof *messages);
	if (!frames || !vectors || !messages) {
		perror("limit: memory");
		return 1;
	}
	for (int i = 0; i < ring; i++) {
		fill(frames + i * FRAME_LEN, mac, 0x0a000001u + i / 2, i % 2);
		vectors[i].iov_base = frames + i * FRAME_LEN;
		vectors[i].iov_len = FRAME_LEN;
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}

	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	int send_buffer = 1 << 20;
	struct sockaddr_ll nic = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1])};
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_buffer, sizeof send_buffer) ||
	    bind(fd, (struct sockaddr *)&nic, sizeof nic)) {
		perror("limit: socket");
		return 1;
	}

	double cpu_before = cpu_s(), start = now_s();
	for (int left = total, at = 0; left > 0;) {
		int count = batch;
		if (count > left)
			count = left;
		if (count > ring - at)
			count = ring - at;
		int sent = sendmmsg(fd, messages + at, count, MSG_DONTWAIT);
		if (sent < 0) {
			if (errno == ENOBUFS || errno == EAGAIN || errno == EINTR)
				continue;
			perror("limit: sendmmsg");
			return 1;
		}
		left -= sent;
		at = (at + sent) % ring;
	}
	double took = now_s() - start;
	printf("%.0f %.4f\n", total / took, (cpu_s() - cpu_before) / total * 1e6);
	return 0;
}
