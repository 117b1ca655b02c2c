"""`BaseTest`: the base of every pyuvm test of the machine.

A test defines `stimulus`, and may set the knobs in `configure`.
"""

from __future__ import annotations

import traceback
from dataclasses import asdict
from typing import Any

import cocotb
from cocotb.simtime import get_sim_time
from cocotb.triggers import Timer
from pyuvm import ConfigDB, uvm_root, uvm_test

from tb.common import settings
from tb.common.clock import PERIOD_NS
from tb.env.config import EnvConfig, from_settings, random_knobs
from tb.env.env import Environment, Faulty
from tb.env.scoreboard import Scoreboard


class BaseTest(uvm_test):
    """Builds the environment, runs the stimulus, and reports what was compared.

    `wanted` names what must have been compared by the end (fields of `Compared` in tb/env/scoreboard.py).
    """

    wanted: tuple[str, ...] = ("bytes", "answers", "counters", "edges")

    def build_phase(self) -> None:
        self.config = from_settings(cocotb.top)
        self.configure(self.config)
        self.config.seed_random()
        ConfigDB().set(None, "*", "config", self.config)
        if self.config.fault:
            from pyuvm import uvm_factory

            uvm_factory().set_type_override_by_type(Scoreboard, Faulty)
        self.env = Environment("env", self)

    def configure(self, config: EnvConfig) -> None:
        """Sets the knobs. Those of streams and registers are drawn from the seed."""
        names = random_knobs(config, config.rng("knobs"))
        self.logger.info("in stream %s, out stream %s, answers %s; registers: %s", *names, config.registers)

    def connect_phase(self) -> None:
        self.env.scoreboard.wanted = self.wanted

    async def stimulus(self) -> None:
        """The stimulus of the test."""
        raise NotImplementedError

    async def run_phase(self) -> None:
        with self.objection():
            try:
                await self.stimulus()
                await self.env.settle()
            except Exception as error:
                # the message of the scoreboard comes first, because it is nearer to the cause
                self.env.scoreboard.extract_phase()
                messages = "\n".join(self.env.checker.messages[:5])
                text = "".join(traceback.format_exception(error))
                self.logger.error(text)
                raise AssertionError(f"{messages}\n{type(error).__name__}: {error}".strip()) from error

    def results(self) -> dict[str, Any]:
        """Additional results to report."""
        return {}

    def extract_phase(self) -> None:
        compared = asdict(self.env.checker.compared)
        settings.report({"compared_bytes": compared.pop("bytes")} | compared | self.results())


async def run(test: type[BaseTest]) -> None:
    """Runs a pyuvm test inside a cocotb test."""
    # clock edges at whole multiples of the period
    await Timer(PERIOD_NS - int(get_sim_time("ns")) % PERIOD_NS, "ns")
    await uvm_root().run_test(test)
