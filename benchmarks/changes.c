/* What changing addresses costs the kernel: a loop that sends requests encoded before and reads what they are answered with.
 *
 *   changes < REQUESTS
 *
 * REQUESTS: for each slice the length of its messages and the sequence number of its last acknowledgement, 32 bits each in host byte order,
 * and the messages. Prints the seconds on CLOCK_MONOTONIC from the first to the last system call, and how many requests were refused.
 * Nothing but that number is made of the answers. Fails on any error of the socket.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define ANSWERS 128
#define ANSWER_LEN 512

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static unsigned char *read_all(size_t *size)
{
	size_t room = 1 << 20, got;
	unsigned char *all = malloc(room);
	*size = 0;
	while (all && (got = fread(all + *size, 1, room - *size, stdin)) > 0) {
		*size += got;
		if (*size == room)
			all = realloc(all, room *= 2);
	}
	return all;
}

int main(void)
{
	static unsigned char answers[ANSWERS][ANSWER_LEN];
	struct iovec vectors[ANSWERS];
	struct mmsghdr messages[ANSWERS];
	int on = 1, receive_buffer = 8 << 20, fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	struct sockaddr_nl self = {.nl_family = AF_NETLINK};
	size_t size;
	unsigned char *requests = read_all(&size);
	unsigned long refused = 0;

	if (!requests || fd < 0 || bind(fd, (struct sockaddr *)&self, sizeof self) ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on) ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on) ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer, sizeof receive_buffer)) {
		perror("changes: set up");
		return 1;
	}
	memset(messages, 0, sizeof messages);
	for (int i = 0; i < ANSWERS; i++) {
		vectors[i].iov_base = answers[i];
		vectors[i].iov_len = ANSWER_LEN;
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}

	double start = now_s();
	for (size_t at = 0; at < size;) {
		uint32_t head[2];
		memcpy(head, requests + at, sizeof head);
		at += sizeof head;
		if (send(fd, requests + at, head[0], 0) != (ssize_t)head[0]) {
			perror("changes: send");
			return 1;
		}
		at += head[0];
		for (int waiting = 1; waiting;) {
			int got = recvmmsg(fd, messages, ANSWERS, MSG_WAITFORONE, NULL);
			if (got < 0) {
				perror("changes: recvmmsg");
				return 1;
			}
			for (int i = 0; i < got; i++) {
				struct nlmsghdr *answer = (struct nlmsghdr *)answers[i];
				if (answer->nlmsg_type != NLMSG_ERROR)
					continue;
				if (((struct nlmsgerr *)NLMSG_DATA(answer))->error)
					refused++;
				if (answer->nlmsg_seq == head[1])
					waiting = 0;
			}
		}
	}
	printf("%.9f %lu\n", now_s() - start, refused);
	return 0;
}
