"""4 System: memory and speed over time, and what the machine says of the engine now."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll

from tspin_mlx.base.text import duration, printable
from tspin_mlx.view.chart import Mark, Plot, Series
from tspin_mlx.view.run_view import RunView

from ..state.machine_stats import Stats, stats_of
from ..state.status import Now, memory, row
from ..widgets.chart import ChartView
from ..widgets.status_line import Told
from .pane import Pane

_EVERY_S = 2.0


class SystemPane(Pane):
    """Two charts beside the numbers."""

    HELP = (
        "Memory as MLX counts it: what it holds after each step, and the most it has held. The process's own memory, "
        "its share of the processor and, on macOS, of the GPU are asked of the system every two seconds."
    )
    _stats: Stats | None = None
    _answered = False
    _last: Now | None = None

    def compose(self) -> ComposeResult:
        """Charts and numbers."""
        with Horizontal():
            with VerticalScroll(id="system-charts", can_focus=False):
                yield ChartView(id="memory-chart")
                yield ChartView(id="speed-chart")
            with VerticalScroll(id="system-numbers", can_focus=False):
                yield Told(id="numbers")

    def on_mount(self) -> None:
        """Ask the system now and then, while the pane is seen."""
        self.set_interval(_EVERY_S, self._ask)

    def _ask(self) -> None:
        if self.is_on_screen and self.display:
            self.run_worker(self._read, thread=True, exclusive=True, group="stats")

    def _read(self) -> None:
        found = stats_of(self.run.path)
        self.app.call_from_thread(self._told, found)

    def _told(self, stats: Stats | None) -> None:
        self._stats, self._answered = stats, True
        if self._last is not None:
            self._numbers(self._last)

    def show(self, now: Now) -> None:
        """Draw the curves so far."""
        before, self._last = self._last, now
        if before is None:
            self._ask()
        if before is None or before.view.steps is not now.view.steps:
            self.query_one("#memory-chart", ChartView).plot = memory_plot(now.view)
            self.query_one("#speed-chart", ChartView).plot = speed_plot(now.view)
        self._numbers(now)

    def _numbers(self, now: Now) -> None:
        width = max(24, self.query_one("#system-numbers").scrollable_content_region.width or 34)
        self.query_one("#numbers", Told).tell(Text("\n").join(self._rows(now, width)))

    def _rows(self, now: Now, width: int) -> Iterator[Text]:
        view, about = now.view, self.run.about
        total = view.machine.get("memory_bytes")
        yield Text(printable(str(view.machine.get("device", about["machine"]["machine"]))), style="bold")
        yield row(now, "system", f"{about['machine']['system']}, Python {about['machine']['python']}", width)
        for name, version in about["versions"].items():
            yield row(now, name, printable(str(version)), width)
        yield Text()
        if (stats := self._stats) is not None:
            yield row(now, "process", str(stats.pid), width)
            yield row(now, "resident memory", memory(stats.resident_bytes, total), width)
            yield row(now, "processor", f"{stats.cpu_percent:.0f} % of a core", width)
            if stats.gpu_percent is not None:
                yield row(now, "GPU", f"{stats.gpu_percent:.0f} %", width)
        else:
            told = "no process of this machine works on it" if self._answered else "asking the system …"
            yield now.text((told, "dim"))
        yield Text()
        if view.steps:
            last = view.steps[-1]
            for name, key in (("memory held", "memory/active_bytes"), ("most held", "memory/peak_bytes")):
                if key in last:
                    yield row(now, name, memory(last[key], total), width)
            yield row(now, "seconds per step", f"{last['elapsed_s']:.2f}", width)
        if view.begun:
            yield row(now, "since its last start", duration(max(0.0, view.time - view.begun)), width)
        yield Text()
        yield now.text((printable(str(self.run.path)), "dim"))


def memory_plot(view: RunView) -> Plot:
    """Memory held and the most of it, in GB."""
    names = (("held", "memory/active_bytes"), ("most", "memory/peak_bytes"))
    series = [Series(name, view.steps.column(key) / 1e9) for name, key in names if key in view.steps.names()]
    return Plot(tuple(series) or (Series("held", view.steps.column("")),), _marks(view), unit="GB", window=1)


def speed_plot(view: RunView) -> Plot:
    """Tokens per second while training."""
    return Plot((Series("training", view.steps.column("tokens_per_s")),), _marks(view), unit="tokens/s")


def _marks(view: RunView) -> tuple[Mark, ...]:
    labels = ("warm-up" if part.iteration is None else f"iteration {part.iteration}" for part in view.parts)
    return tuple(Mark(part.start, label) for part, label in zip(view.parts, labels, strict=True))
