"""System pane: memory and speed over the steps, and the statistics of the engine's process."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll

from tspin_mlx.base.text import duration, printable
from tspin_mlx.view.chart import Mark, Plot, Series
from tspin_mlx.view.run_view import RunView

from ..state.machine_stats import ProcessStats, process_stats
from ..state.status import RunStatus, format_memory, name_value
from ..widgets.chart import ChartView
from ..widgets.status_line import StatusLine
from .pane import Pane

REFRESH_S = 2.0


class SystemPane(Pane):
    """Two charts next to the numbers."""

    HELP = (
        "MLX memory: held after each step, and the peak. The process's resident memory, its CPU use and, on macOS, "
        "the GPU use are read from the system every two seconds."
    )
    _stats: ProcessStats | None = None
    _has_stats = False  # whether the system was asked, even if no process works on the run
    _last: RunStatus | None = None

    def compose(self) -> ComposeResult:
        """Yield the charts and the numbers."""
        with Horizontal():
            with VerticalScroll(id="system-charts", can_focus=False):
                yield ChartView(id="memory-chart")
                yield ChartView(id="speed-chart")
            with VerticalScroll(id="system-numbers", can_focus=False):
                yield StatusLine(id="numbers")

    def on_mount(self) -> None:
        """Read the process statistics at intervals, while the pane is visible."""
        self.set_interval(REFRESH_S, self._request_stats)

    def _request_stats(self) -> None:
        if self.is_on_screen and self.display:
            self.run_worker(self._read_stats, thread=True, exclusive=True, group="stats")

    def _read_stats(self) -> None:
        stats = process_stats(self.run.path)
        self.app.call_from_thread(self._show_stats, stats)

    def _show_stats(self, stats: ProcessStats | None) -> None:
        self._stats, self._has_stats = stats, True
        if self._last is not None:
            self._show_numbers(self._last)

    def show(self, status: RunStatus) -> None:
        """Update the numbers and, if there are new steps, the charts."""
        before, self._last = self._last, status
        if before is None:
            self._request_stats()
        if before is None or before.view.steps is not status.view.steps:
            self.query_one("#memory-chart", ChartView).plot = memory_plot(status.view)
            self.query_one("#speed-chart", ChartView).plot = speed_plot(status.view)
        self._show_numbers(status)

    def _show_numbers(self, status: RunStatus) -> None:
        width = max(24, self.query_one("#system-numbers").scrollable_content_region.width or 34)
        self.query_one("#numbers", StatusLine).show(Text("\n").join(self._rows(status, width)))

    def _rows(self, status: RunStatus, width: int) -> Iterator[Text]:
        view, about = status.view, self.run.about
        total = view.machine.get("memory_bytes")
        yield Text(printable(str(view.machine.get("device", about["machine"]["machine"]))), style="bold")
        yield name_value(status, "system", f"{about['machine']['system']}, Python {about['machine']['python']}", width)
        for name, version in about["versions"].items():
            yield name_value(status, name, printable(str(version)), width)
        yield Text()
        if (stats := self._stats) is not None:
            yield name_value(status, "process", str(stats.pid), width)
            yield name_value(status, "resident memory", format_memory(stats.resident_bytes, total), width)
            yield name_value(status, "CPU", f"{stats.cpu_percent:.0f} % of a core", width)
            if stats.gpu_percent is not None:
                yield name_value(status, "GPU", f"{stats.gpu_percent:.0f} %", width)
        else:
            text = "no process on this machine trains it" if self._has_stats else "asking the system …"
            yield status.styled((text, "dim"))
        yield Text()
        if view.steps:
            last = view.steps[-1]
            for name, key in (("memory held", "memory/active_bytes"), ("peak memory", "memory/peak_bytes")):
                if key in last:
                    yield name_value(status, name, format_memory(last[key], total), width)
            yield name_value(status, "seconds per step", f"{last['elapsed_s']:.2f}", width)
        if view.begun:
            yield name_value(status, "since the last start", duration(max(0.0, view.time - view.begun)), width)
        yield Text()
        yield status.styled((printable(str(self.run.path)), "dim"))


def memory_plot(view: RunView) -> Plot:
    """Return the plot of the memory in use and its peak, in GB."""
    names = (("held", "memory/active_bytes"), ("peak", "memory/peak_bytes"))
    series = [Series(name, view.steps.column(key) / 1e9) for name, key in names if key in view.steps.names()]
    return Plot(tuple(series) or (Series("held", view.steps.column("")),), _marks(view), unit="GB", window=1)


def speed_plot(view: RunView) -> Plot:
    """Return the plot of the training speed in tokens per second."""
    return Plot((Series("training", view.steps.column("tokens_per_s")),), _marks(view), unit="tokens/s")


def _marks(view: RunView) -> tuple[Mark, ...]:
    labels = ("warm-up" if part.iteration is None else f"iteration {part.iteration}" for part in view.parts)
    return tuple(Mark(part.start, label) for part, label in zip(view.parts, labels, strict=True))
