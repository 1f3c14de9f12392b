"""An elector that permits what a test says, and a segment that nobody needs to ask."""


class FakeElector:
    """The port of `Elector`: permits what it is told to, and fences as one does."""

    def __init__(self, house):
        self.house = house
        self.permits = True  # all, or a set of VIPs
        self.until = 1e9
        self.heard_of = []
        self.fences = []
        self.doubts = 0
        self.mute = set()
        self.held_elsewhere = set()
        self.leases = set()  # by which every VIP is held
        self.proven = {}  # VIP -> what is written of it with its ownership
        self.blocked = ""

    def permit(self, vip):
        allowed = self.permits is True or (self.permits and vip in self.permits)
        return self.until if allowed and self.house.clock.now() < self.until else None

    def speaks(self, uid):
        return uid not in self.mute

    def elsewhere(self, vip):
        return vip in self.held_elsewhere

    def succeeds(self, vip):
        return ""

    def had(self, vip):
        return self.proven.get(vip)

    def covers(self, vip, lease):
        return lease in self.leases

    def peer_macs(self):
        return {b"\2\0\0\0\0\x0b"}

    def doubt(self, vip):
        self.doubts += 1
        self.house.log.append(("doubt", ""))

    def demand_changed(self, vips):
        self.heard_of.append(set(vips))

    def fence(self, reason):
        if not self.permits:
            return
        self.fences.append(reason)
        self.permits = False
        self.house.wires.fenced(reason)


class NoQuestions:
    """Nothing is known of the segment, and nobody is to be asked."""

    def __init__(self):
        self.unasked = set()
        self.taken = set()
        self.forgotten = []
        self.doubted = set()
        self.asked = []
        self.known = set()
        self.gone = []

    def look(self, vip, link):
        pass

    def bound(self, vip, link):
        pass

    def left(self, vip):
        self.gone.append(vip)

    def first(self, vip):
        return vip not in self.known

    def unprobed(self, vip, link):
        return vip in self.unasked

    def in_doubt(self, vip, link):
        return vip in self.doubted

    def forget(self, vip):
        self.forgotten.append(vip)

    def contested(self, vip):
        return vip in self.taken

    def ask(self, vips, link):
        self.asked.append(list(vips))
