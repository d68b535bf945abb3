"""A volume behaves as a dictionary of paths does, whatever is done to it and in whatever order."""

from uuid import uuid4

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coatcheck import blocking
from coatcheck.objects.memory import forget

SEGMENTS = st.sampled_from(["a", "ab", "b", "a b", "\u00fc", "0", "a-", "...", "\U0001f9e5"])
PATHS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)
TOPS = st.one_of(st.just(""), PATHS)
BODIES = st.binary(max_size=8)


def within(path, top):
    return not top or path == top or path.startswith(f"{top}/")


def moved(path, top, goal):
    rest = path[len(top) :].strip("/") if top else path
    return "/".join(part for part in (goal, rest) if part)


class VolumeMachine(RuleBasedStateMachine):
    """A volume, and beside it what it should hold."""

    def __init__(self):
        super().__init__()
        self.name = uuid4().hex
        self.volume = blocking.open_volume(f"memory://{self.name}").folder("base")
        self.outside = blocking.open_volume(f"memory://{self.name}")
        self.outside.store("based", b"a sibling")
        self.model: dict[str, bytes] = {}

    def teardown(self):
        assert self.outside.load("based").read() == b"a sibling"
        forget(self.name)

    @rule(path=PATHS, body=BODIES)
    def store(self, path, body):
        self.volume.store(path, body)
        self.model[path] = body

    @rule(path=PATHS)
    def delete(self, path):
        gone = [known for known in self.model if within(known, path)]
        assert self.volume.delete(path) == len(gone)
        for known in gone:
            del self.model[known]

    @rule(top=PATHS)
    def erase_a_folder(self, top):
        gone = [known for known in self.model if known.startswith(f"{top}/")]
        assert self.volume.folder(top).erase() == len(gone)
        for known in gone:
            del self.model[known]

    @rule(top=PATHS, goal=PATHS, skip_same=st.booleans())
    def copy(self, top, goal, skip_same):
        found = {known: body for known, body in self.model.items() if within(known, top)}
        if not found or within(goal, top):
            return
        # Where the goal is above its source, what is copied could be overwritten meanwhile.
        if within(top, goal):
            return
        new = {moved(known, top, goal): body for known, body in found.items()}
        same = sum(self.model.get(path) == body for path, body in new.items())
        summary = self.volume.copy_to(self.volume, top, to=goal, skip_same=skip_same)
        assert summary.files_already_there == (same if skip_same else 0)
        assert summary.files + summary.files_already_there == len(new)
        self.model.update(new)

    @rule(top=TOPS)
    def walk(self, top):
        expected = sorted(known for known in self.model if within(known, top))
        assert [path for path, _ in self.volume.walk(top)] == expected

    @invariant()
    def the_same_files_are_there(self):
        found = {path: file.read() for path, file in self.volume.walk()}
        assert found == self.model


TestVolumeMachine = VolumeMachine.TestCase
TestVolumeMachine.settings = settings(
    max_examples=40,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
