// Where the blocks of the machine are in psa_checked. The checkers and the probe find them by these names alone: a block that moves is moved
// here (and for Python in tb/common/inside.py).

`ifndef PSA_PLACES_VH
`define PSA_PLACES_VH

`define AT_TOP       psa_checked.dut
`define AT_LOAD      `AT_TOP.load
`define AT_CORE      `AT_TOP.core
`define AT_SEQUENCER `AT_CORE.sequencer
`define AT_FETCH     `AT_CORE.fetch
`define AT_BANK(g)   `AT_FETCH.gen_bank[g]
`define AT_SLOTS     `AT_CORE.slots
`define AT_ROW(r)    `AT_CORE.pe_array.gen_row[r]
`define AT_COLUMN(c) `AT_CORE.gen_column[c].column
`define AT_WRITEBACK `AT_CORE.writeback

`endif
