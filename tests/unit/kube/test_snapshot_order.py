"""What an informer tells first of a snapshot: mode `claims` counts its view as complete once the snapshot shows its own heartbeat."""

from tests.unit.kube.kube_server import GONE, answer, informing, initial, service, until


async def test_what_vanished_is_told_before_what_is_new(tmp_path):
    first = initial(5, service("a", 1), service("z", 2)).end()
    async with informing(tmp_path, first, answer(410, GONE), initial(9, service("a", 6), service("b", 7))) as (_server, informer, told):
        await until(lambda: "default/b" in informer.store)
    assert told == ["default/a", "default/z", "default/z", "default/a", "default/b"]
