"""What was answered is remembered until its label comes, for a while, once."""

from muster_agent.observe.labels import Author, LabelMemory
from muster_agent.observe.window import ModelIdentity

OLD = Author(ModelIdentity("pets", "1", "aa" * 32), ("cat", "dog"))
NEW = Author(ModelIdentity("pets", "2", "bb" * 32), ("cat", "dog"))


def test_an_answer_is_forgotten_with_its_label():
    memory = LabelMemory()
    memory.remember(OLD, [(b"a", 1.0)])
    assert memory.take(b"a").value == 1.0
    assert memory.take(b"a") is None
    assert len(memory) == 0


def test_the_oldest_answers_go_first_when_there_are_too_many():
    memory = LabelMemory(remembered_max=3)
    memory.remember(OLD, [(b"a", 0.0), (b"b", 0.0)])
    memory.remember(NEW, [(b"c", 0.0), (b"d", 0.0)])
    assert len(memory) == 3
    assert memory.take(b"a") is None
    assert [memory.take(name).author for name in (b"b", b"c", b"d")] == [OLD, NEW, NEW]


def test_an_id_that_is_used_again_means_its_newest_inference_and_counts_as_new():
    memory = LabelMemory(remembered_max=2)
    memory.remember(OLD, [(b"a", 0.0), (b"b", 0.0)])
    memory.remember(NEW, [(b"a", 1.0)])
    memory.remember(NEW, [(b"c", 0.0)])
    assert memory.take(b"b") is None
    assert memory.take(b"a") == (NEW, 1.0)
