"""SESS in some threads while others train, predict or explain: nobody notices anybody."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from sess_lightning import SESS
from sess_lightning.probing import probe
from sess_lightning.saliency import RISE, ExtremalPerturbation, GradCAM, GroupCAM, GuidedBackprop, InputGradient
from sess_lightning.sess.base_maps import base_maps
from tests.helpers.nets import seeded, small_cnn

METHODS = {
    "gradcam": GradCAM,
    "gradcam_named": lambda: GradCAM("layers.3"),
    "cam": lambda: "cam",
    "groupcam": lambda: GroupCAM(groups=4),
    "guided": GuidedBackprop,
    "input": InputGradient,
    "excitation": lambda: "excitation_bp",
    "extremal": lambda: ExtremalPerturbation(num_steps=2),
    "rise": lambda: RISE(num_masks=10),
    "foreign": lambda: lambda model, images, targets: images.sum(1) + model(images).sum(),
}
TIMEOUT = 60


class Observed(nn.Module):
    """A network that lets another thread work in the middle of each of its forwards."""

    def __init__(self, meanwhile=None):
        super().__init__()
        self.layers = small_cnn()
        self.meanwhile = meanwhile

    def forward(self, images):
        maps = self.layers[:3](images)
        if self.meanwhile is not None:
            self.meanwhile()
        return self.layers[3:](maps)


class Training:
    """A training with dropout-free batch norm, one step a call."""

    def __init__(self):
        self.net = small_cnn(num_classes=3).train()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
        self.steps = 0

    def step(self):
        images, labels = seeded(self.steps, 4, 3, 8, 8), torch.arange(4) % 3
        loss = nn.functional.cross_entropy(self.net(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.steps += 1

    def weights(self):
        return [tensor.clone() for tensor in self.net.state_dict().values()]


class Worker:
    """A thread that works when it is asked to, and is waited for; what it raises is raised to who asked."""

    def __init__(self, work):
        self._work, self._asked, self._answers = work, queue.Queue(), queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __call__(self):
        self._asked.put(True)
        error = self._answers.get(timeout=TIMEOUT)
        if error is not None:
            raise error

    def _run(self):
        while self._asked.get():
            try:
                self._work()
                self._answers.put(None)
            except Exception as error:
                self._answers.put(error)

    def close(self):
        self._asked.put(False)
        self._thread.join(TIMEOUT)


@pytest.fixture
def worker():
    workers = []

    def started(work):
        workers.append(Worker(work))
        return workers[-1]

    yield started
    for one in workers:
        one.close()


def explained(method, model, seed=0):
    sess = SESS(method, num_scales=2, window_size=16, batch_size=3)
    images, targets = seeded(seed, 2, 3, 20, 24), torch.tensor([1, 3])
    maps = sess(model, images, targets).maps
    return [maps, *base_maps(sess, model, images[..., :16, :16].contiguous(), targets, list(images))[0]]


def assert_equal(found, expected):
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("name", METHODS)
def test_a_net_that_another_thread_trains_during_every_forward_is_trained_as_ever(worker, name):
    expected = explained(METHODS[name](), Observed())
    other, grad_modes = Training(), []

    def meanwhile():
        other.step()
        grad_modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    assert_equal(explained(METHODS[name](), Observed(worker(meanwhile))), expected)
    alone = Training()
    for _ in range(other.steps):
        alone.step()
    assert other.steps > 2
    assert_equal(other.weights(), alone.weights())
    assert set(grad_modes) == {(True, False)}


@pytest.mark.parametrize("name", ["gradcam", "gradcam_named", "guided", "excitation", "foreign"])
def test_a_thread_that_predicts_with_the_model_that_is_explained_meets_no_hook(worker, name):
    model, images, seen = Observed(), seeded(5, 1, 3, 16, 16), []
    with torch.no_grad():
        expected = model.eval()(images)

    def predict():
        model.meanwhile = None
        with torch.no_grad():
            logits = model(images)
            seen.append(torch.is_grad_enabled() or logits.requires_grad or not torch.equal(logits, expected))
        model.meanwhile = meanwhile

    meanwhile = model.meanwhile = worker(predict)
    explained(METHODS[name](), model)
    model.meanwhile = None
    assert len(seen) > 2
    assert not any(seen)


def test_two_threads_explain_while_a_third_trains():
    models = [Observed(), nn.Sequential(small_cnn(norm=False))]
    alone = [explained("gradcam", model, seed) for seed, model in enumerate(models)]
    training, running = Training(), True

    def train():
        while running or training.steps < 5:
            training.step()

    with ThreadPoolExecutor(3) as pool:
        third = pool.submit(train)
        try:
            work = [pool.submit(lambda n: [explained("gradcam", models[n], n) for _ in range(8)], n) for n in (0, 1)]
            found = [one.result(TIMEOUT) for one in work]
        finally:
            running = False
        third.result(TIMEOUT)
    for results, expected in zip(found, alone, strict=True):
        for result in results:
            assert_equal(result, expected)
    same = Training()
    for _ in range(training.steps):
        same.step()
    assert_equal(training.weights(), same.weights())


def test_two_threads_share_one_sess_object_with_a_model_each():
    sess, images = SESS(num_scales=2, window_size=16), seeded(0, 1, 3, 20, 20)
    models = [small_cnn(), nn.ModuleDict({"net": small_cnn(norm=False)})]
    models[1].forward = models[1]["net"].forward
    expected = [sess(model, images, torch.tensor([1])).maps for model in models]

    def work(number):
        return [sess(models[number], images, torch.tensor([1])).maps for _ in range(8)]

    with ThreadPoolExecutor(2) as pool:
        for maps, wanted in zip(pool.map(work, (0, 1)), expected, strict=True):
            assert_equal(maps, [wanted] * 8)


@pytest.mark.parametrize("shared", ["model", "part"])
def test_two_threads_explain_one_model_in_turn(shared):
    trunk = Observed().train()
    models = [trunk, trunk if shared == "model" else nn.Sequential(trunk, nn.Linear(4, 4))]
    expected = [explained("gradcam", model) for model in models]
    at_once, most = [0], [0]

    def meanwhile():
        at_once[0] += 1
        most[0] = max(most[0], at_once[0], len({id(m) for m in trunk.modules() if m.training}))
        threading.Event().wait(0.001)
        at_once[0] -= 1

    trunk.meanwhile = meanwhile
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(lambda m: [explained("gradcam", m) for _ in range(3)], model) for model in models]
        for results, wanted in zip([one.result(TIMEOUT) for one in work], expected, strict=True):
            for result in results:
                assert_equal(result, wanted)
    assert most == [1]  # never two, and no module in training mode
    assert all(module.training for module in trunk.modules())


def test_a_model_is_free_again_after_a_failure():
    model = small_cnn()
    with pytest.raises(ValueError, match="planted"), probe(model):
        raise ValueError("planted")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: explained("gradcam", model)).result(TIMEOUT)


def test_compiled_modules_run_eagerly_until_the_last_probe_ends(worker):
    compiled = []

    def backend(graph, inputs):
        compiled.append(1)
        return graph.forward

    function = torch.compile(lambda x: x + 1, backend=backend)
    first, second = probe(small_cnn()), probe(small_cnn())
    first.__enter__()
    enter, leave = (lambda: second.__enter__()), (lambda: second.__exit__(None, None, None))
    steps = iter([enter, lambda: function(torch.ones(2)), leave])
    other = worker(lambda: next(steps)())
    other()
    first.__exit__(None, None, None)
    other()
    assert not compiled  # the second probe still holds
    other()
    function(torch.ones(2))
    assert compiled
