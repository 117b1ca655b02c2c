"""psa_column_control: what each column is told, calculated from cycle numbers.

The sum of pixel i of a word that enters in cycle n leaves column c in cycle n + 3 + T + i + c: the pixel
enters row 0 in n + 1 + i, takes a cycle to be selected and one to be multiplied, T down the array and c
across. If the pass adds to a sum, the pixel is named two cycles before, too. A word that a tile's last pass
completes starts in column c two cycles before its first sum, in cycle n + 1 + T + c.

Corners:

- words without a gap, one cycle apart and more
- first pass, last pass, both (a tile of one pass) and neither
- the last word of a layer
- words of maxima between words of sums
- every pixel kept, none, some
- the first and last word of the accumulators
- reset with words in the array, and in the cycle in which a word enters
- garbage on all fields when no word enters
"""

from __future__ import annotations

from typing import Any

import cocotb

from tb.common import settings
from tb.common.block import Bench, chance, edgy
from tb.common.seeding import numpy_rng

WORDS = 150


@cocotb.test()
async def tokens_and_starts(dut: Any) -> None:
    size = settings.parameters()
    t, columns = size["ROWS"], size["COLS"]
    index_bits = (size["ACC_DEPTH"] - 1).bit_length()
    rng = numpy_rng("words")
    fields = (
        "word_index",
        "word_keep",
        "word_first",
        "word_last",
        "word_maximum",
        "word_out",
        "word_filter_base",
        "word_layer_last",
    )
    bench = Bench(dut, "rst", "word_valid", *fields)
    await bench.reset(word_valid=0)

    # cycle -> column -> index, first, last, maximum, keep
    tokens: dict[int, dict[int, tuple[int, ...]]] = {}
    reads: dict[int, dict[int, int]] = {}  # cycle -> column -> index
    starts: dict[int, tuple[int, int, int, int]] = {}
    seen = dict.fromkeys(
        (
            "words",
            "starts",
            "resets_with_tokens",
            "dropped_at_the_door",
            "first_and_last",
            "maxima",
            "layer_last",
            "back_to_back",
        ),
        0,
    )
    sent, next_word, last_entry = 0, bench.number + 1, 0

    while sent < WORDS or tokens:
        enter = sent < WORDS and bench.number + 1 >= next_word
        reset = chance(rng, 0.01) or (enter and chance(rng, 0.03))
        word = {
            "word_index": edgy(rng, 0, size["ACC_DEPTH"] // t - 1),
            "word_keep": int(rng.choice([0, (1 << t) - 1, int(rng.integers(1 << t))])),
            "word_first": int(chance(rng, 0.5)),
            "word_last": int(chance(rng, 0.5)),
            "word_maximum": int(chance(rng, 0.5)),
            "word_out": edgy(rng, 0, (1 << size["FEATURE_ADDR"]) - 1),
            "word_filter_base": edgy(rng, 0, (1 << size["FILTER_ADDR"]) - 1),
            "word_layer_last": int(chance(rng, 0.2)),
        }
        await bench.cycle(rst=int(reset), word_valid=int(enter), **(word if enter else {}))

        now = tokens.pop(bench.number, {})
        bench.expect(pixel_valid=sum(1 << c for c in now))
        for place, (name, bits) in enumerate(
            (
                ("pixel_index", index_bits),
                *((f"pixel_{name}", 1) for name in ("first", "last", "maximum", "keep")),
            )
        ):
            bench.expect_parts(name, bits, {c: token[place] for c, token in now.items()})
        read = reads.pop(bench.number, {})
        bench.expect(read_valid=sum(1 << c for c in read))
        bench.expect_parts("read_index", index_bits, read)
        start = starts.pop(bench.number, None)
        if start is None:
            bench.expect(start_valid=0)
        else:
            column, out, filter_base, layer_last = start
            bench.expect(
                start_valid=1,
                start_column=column,
                start_out=out,
                start_filter_base=filter_base,
                start_layer_last=layer_last,
            )
            seen["starts"] += 1

        if reset:
            seen["resets_with_tokens"] += bool(tokens)
            seen["dropped_at_the_door"] += enter
            tokens.clear()
            reads.clear()
            starts.clear()
        elif enter:
            for c in range(columns):
                for i in range(t):
                    token = (
                        word["word_index"] * t + i,
                        word["word_first"],
                        word["word_last"],
                        word["word_maximum"],
                        word["word_keep"] >> i & 1,
                    )
                    leaves = bench.number + 3 + t + i + c
                    tokens.setdefault(leaves, {})[c] = token
                    if not word["word_first"]:
                        reads.setdefault(leaves - 2, {})[c] = token[0]
                if word["word_last"]:
                    starts[bench.number + 1 + t + c] = (
                        c,
                        word["word_out"],
                        word["word_filter_base"],
                        word["word_layer_last"],
                    )
            seen["words"] += 1
            seen["first_and_last"] += word["word_first"] and word["word_last"]
            seen["maxima"] += word["word_maximum"]
            seen["layer_last"] += word["word_last"] and word["word_layer_last"]
            seen["back_to_back"] += bench.number - last_entry == t
            last_entry = bench.number
        if enter:
            sent += 1
            next_word = bench.number + t + int(rng.choice([0, 0, 0, 1, t - 1, t, 3 * t]))
    bench.done(**seen)
