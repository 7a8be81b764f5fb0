"""The stamp of a stream: whatever rows depend on changes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from toys import stream

from continuad.benchmark.protocol import Protocol, stream_stamp
from continuad.core.types import Task


def other_pixel(tasks: list[Task]) -> list[Task]:
    tasks[1].test.images[3, 2, 5, 7] ^= 1
    return tasks


def other_mask_pixel(tasks: list[Task]) -> list[Task]:
    tasks[1].test.masks[5, 60, 60] ^= True
    return tasks


def other_label(tasks: list[Task]) -> list[Task]:
    tasks[1].test.labels[0] ^= True
    return tasks


def a_mask_less(tasks: list[Task]) -> list[Task]:
    tasks[1].test.mask_known[5] = False
    return tasks


def val_and_test_exchanged(tasks: list[Task]) -> list[Task]:
    tasks[1] = replace(tasks[1], val=tasks[1].test, test=tasks[1].val)
    return tasks


def other_training_image(tasks: list[Task]) -> list[Task]:
    tasks[0].train.images[0] = tasks[0].val.images[0]
    return tasks


def other_name(tasks: list[Task]) -> list[Task]:
    tasks[1] = replace(tasks[1], name="check")
    return tasks


def other_order(tasks: list[Task]) -> list[Task]:
    return tasks[::-1]


def a_product_less(tasks: list[Task]) -> list[Task]:
    return tasks[:1]


@pytest.mark.parametrize(
    "change",
    [
        other_pixel,
        other_mask_pixel,
        other_label,
        a_mask_less,
        val_and_test_exchanged,
        other_training_image,
        other_name,
        other_order,
        a_product_less,
    ],
)
def test_streams_that_differ_have_different_stamps(change: Callable[[list[Task]], list[Task]]) -> None:
    assert stream_stamp(stream(2)) == stream_stamp(stream(2))
    assert stream_stamp(change(stream(2))) != stream_stamp(stream(2))


def test_whatever_is_measured_otherwise_has_another_stamp() -> None:
    *tasks, egg = stream(3)
    asked = [
        Protocol(),
        Protocol(scenario="class"),
        Protocol(groups="1-1"),
        Protocol(look_ahead=True),
        Protocol(open_set=[egg]),
        Protocol(open_set=[replace(egg, name="nut")]),
    ]
    assert len({protocol.stamp(tasks) for protocol in asked}) == len(asked)
