// Where the fields of words are: of memories, headers of packets and descriptors (docs/formats.md).
//
// Rendered from pymodel/machine/memory.py, program.py and dma.py by `python -m scripts.words`. A test fails
// when they differ.
//
//   PSA_<word>_<field>       where the field is, for a part-select: word[`PSA_FILTER_BIAS]. Of a word of
//                            entries, where it is in one: word[i*`PSA_EDGE_ENTRY_BITS + `PSA_EDGE_LEFT]
//   PSA_<word>_<field>_BITS  bits of the field; 0 where it is not there
//   PSA_<word>_ENTRY_BITS    bits of an entry of the word
//   PSA_<word>_BITS          bits of the word
//   PSA_<word>_BEATS         beats of the load stream that it takes
//   PSA_<word>_DESTINATION   its memory in the header of a packet
//
// An expression is in the parameters of `psa_top`, and T for its rows. A module that uses one has those under
// these names.

`ifndef PSA_WORDS_VH
`define PSA_WORDS_VH

// FEATURE

`define PSA_FEATURE_DESTINATION           4'd0
`define PSA_FEATURE_PIXEL                 0 +: 8
`define PSA_FEATURE_PIXEL_BITS            8
`define PSA_FEATURE_ENTRY_BITS            8
`define PSA_FEATURE_BITS                  (T * `PSA_FEATURE_ENTRY_BITS)
`define PSA_FEATURE_BEATS                 ((`PSA_FEATURE_BITS + STREAM_BITS - 1) / STREAM_BITS)

// PROGRAM

`define PSA_PROGRAM_DESTINATION           4'd1
`define PSA_PROGRAM_OPCODE                0 +: 16
`define PSA_PROGRAM_OPCODE_BITS           16
`define PSA_PROGRAM_WORDS                 16 +: 16
`define PSA_PROGRAM_WORDS_BITS            16
`define PSA_PROGRAM_PHASES                32 +: 16
`define PSA_PROGRAM_PHASES_BITS           16
`define PSA_PROGRAM_CHUNK_WORDS           48 +: 16
`define PSA_PROGRAM_CHUNK_WORDS_BITS      16
`define PSA_PROGRAM_EDGE_BASE             64 +: 16
`define PSA_PROGRAM_EDGE_BASE_BITS        16
`define PSA_PROGRAM_EDGE_STRIDE           80 +: 16
`define PSA_PROGRAM_EDGE_STRIDE_BITS      16
`define PSA_PROGRAM_TAP_BASE              96 +: 16
`define PSA_PROGRAM_TAP_BASE_BITS         16
`define PSA_PROGRAM_TAP_STRIDE            112 +: 16
`define PSA_PROGRAM_TAP_STRIDE_BITS       16
`define PSA_PROGRAM_TILE_BASE             128 +: 16
`define PSA_PROGRAM_TILE_BASE_BITS        16
`define PSA_PROGRAM_TILES                 144 +: 16
`define PSA_PROGRAM_TILES_BITS            16
`define PSA_PROGRAM_GAP                   160 +: 8
`define PSA_PROGRAM_GAP_BITS              8
`define PSA_PROGRAM_PAD                   168 +: 8
`define PSA_PROGRAM_PAD_BITS              8
`define PSA_PROGRAM_MODE                  176 +: 8
`define PSA_PROGRAM_MODE_BITS             8
`define PSA_PROGRAM_BITS                  184
`define PSA_PROGRAM_BEATS                 ((`PSA_PROGRAM_BITS + STREAM_BITS - 1) / STREAM_BITS)

// TILE

`define PSA_TILE_DESTINATION              4'd2
`define PSA_TILE_LANE_BASE                0 +: 16
`define PSA_TILE_LANE_BASE_BITS           16
`define PSA_TILE_PASSES                   16 +: 16
`define PSA_TILE_PASSES_BITS              16
`define PSA_TILE_FILTER_BASE              32 +: 16
`define PSA_TILE_FILTER_BASE_BITS         16
`define PSA_TILE_SLOT_BASE                48 +: 16
`define PSA_TILE_SLOT_BASE_BITS           16
`define PSA_TILE_BITS                     64
`define PSA_TILE_BEATS                    ((`PSA_TILE_BITS + STREAM_BITS - 1) / STREAM_BITS)

// LANE

`define PSA_LANE_DESTINATION              4'd3
`define PSA_LANE_GROUP                    0 +: $clog2(GROUP_DEPTH)
`define PSA_LANE_GROUP_BITS               $clog2(GROUP_DEPTH)
`define PSA_LANE_BITS                     $clog2(GROUP_DEPTH)
`define PSA_LANE_BEATS                    ((`PSA_LANE_BITS + STREAM_BITS - 1) / STREAM_BITS)

// SLOT

`define PSA_SLOT_DESTINATION              4'd4
`define PSA_SLOT_WEIGHT                   0 +: WEIGHT_BITS
`define PSA_SLOT_WEIGHT_BITS              WEIGHT_BITS
`define PSA_SLOT_POSITION                 WEIGHT_BITS +: (WEIGHT_BITS == 8 ? 0 : 1)
`define PSA_SLOT_POSITION_BITS            (WEIGHT_BITS == 8 ? 0 : 1)
`define PSA_SLOT_SELECT                   WEIGHT_BITS + (WEIGHT_BITS == 8 ? 0 : 1) +: (GROUP == 1 ? 1 : $clog2(GROUP))
`define PSA_SLOT_SELECT_BITS              (GROUP == 1 ? 1 : $clog2(GROUP))
`define PSA_SLOT_ENTRY_BITS               (WEIGHT_BITS + (WEIGHT_BITS == 8 ? 0 : 1) + (GROUP == 1 ? 1 : $clog2(GROUP)))
`define PSA_SLOT_ROW_BITS                 (COLS * `PSA_SLOT_ENTRY_BITS)
`define PSA_SLOT_BITS                     (`PSA_SLOT_ROW_BITS + (XOR_INPUTS == 0 ? 0 : 3))
`define PSA_SLOT_BEATS                    ((`PSA_SLOT_BITS + STREAM_BITS - 1) / STREAM_BITS)

// GROUP

`define PSA_GROUP_DESTINATION             4'd5
`define PSA_GROUP_VALID                   0 +: 1
`define PSA_GROUP_VALID_BITS              1
`define PSA_GROUP_BASE                    1 +: $clog2(FEATURE_DEPTH)
`define PSA_GROUP_BASE_BITS               $clog2(FEATURE_DEPTH)
`define PSA_GROUP_TAP                     1 + $clog2(FEATURE_DEPTH) +: 8
`define PSA_GROUP_TAP_BITS                8
`define PSA_GROUP_ENTRY_BITS              (9 + $clog2(FEATURE_DEPTH))
`define PSA_GROUP_BITS                    (GROUP * `PSA_GROUP_ENTRY_BITS)
`define PSA_GROUP_BEATS                   ((`PSA_GROUP_BITS + STREAM_BITS - 1) / STREAM_BITS)

// TAP

`define PSA_TAP_DESTINATION               4'd6
`define PSA_TAP_OFFSET                    0 +: 1 + $clog2(FEATURE_DEPTH * T)
`define PSA_TAP_OFFSET_BITS               (1 + $clog2(FEATURE_DEPTH * T))
`define PSA_TAP_DY                        1 + $clog2(FEATURE_DEPTH * T) +: 5
`define PSA_TAP_DY_BITS                   5
`define PSA_TAP_DX                        6 + $clog2(FEATURE_DEPTH * T) +: 5
`define PSA_TAP_DX_BITS                   5
`define PSA_TAP_BITS                      (11 + $clog2(FEATURE_DEPTH * T))
`define PSA_TAP_BEATS                     ((`PSA_TAP_BITS + STREAM_BITS - 1) / STREAM_BITS)

// EDGE

`define PSA_EDGE_DESTINATION              4'd7
`define PSA_EDGE_VALID                    0 +: 1
`define PSA_EDGE_VALID_BITS               1
`define PSA_EDGE_LEFT                     1 +: 4
`define PSA_EDGE_LEFT_BITS                4
`define PSA_EDGE_RIGHT                    5 +: 4
`define PSA_EDGE_RIGHT_BITS               4
`define PSA_EDGE_TOP                      9 +: 4
`define PSA_EDGE_TOP_BITS                 4
`define PSA_EDGE_BOTTOM                   13 +: 4
`define PSA_EDGE_BOTTOM_BITS              4
`define PSA_EDGE_ENTRY_BITS               17
`define PSA_EDGE_BITS                     (T * `PSA_EDGE_ENTRY_BITS)
`define PSA_EDGE_BEATS                    ((`PSA_EDGE_BITS + STREAM_BITS - 1) / STREAM_BITS)

// FILTER

`define PSA_FILTER_DESTINATION            4'd8
`define PSA_FILTER_BIAS                   0 +: 32
`define PSA_FILTER_BIAS_BITS              32
`define PSA_FILTER_MULTIPLIER             32 +: 16
`define PSA_FILTER_MULTIPLIER_BITS        16
`define PSA_FILTER_SHIFT                  48 +: 6
`define PSA_FILTER_SHIFT_BITS             6
`define PSA_FILTER_ZERO                   54 +: 8
`define PSA_FILTER_ZERO_BITS              8
`define PSA_FILTER_LOW                    62 +: 8
`define PSA_FILTER_LOW_BITS               8
`define PSA_FILTER_HIGH                   70 +: 8
`define PSA_FILTER_HIGH_BITS              8
`define PSA_FILTER_WRITE                  78 +: 1
`define PSA_FILTER_WRITE_BITS             1
`define PSA_FILTER_BANK                   79 +: 4
`define PSA_FILTER_BANK_BITS              4
`define PSA_FILTER_BASE                   83 +: $clog2(FEATURE_DEPTH)
`define PSA_FILTER_BASE_BITS              $clog2(FEATURE_DEPTH)
`define PSA_FILTER_TABLE                  83 + $clog2(FEATURE_DEPTH) +: (TABLES == 0 ? 0 : 4)
`define PSA_FILTER_TABLE_BITS             (TABLES == 0 ? 0 : 4)
`define PSA_FILTER_BITS                   (83 + $clog2(FEATURE_DEPTH) + (TABLES == 0 ? 0 : 4))
`define PSA_FILTER_BEATS                  ((`PSA_FILTER_BITS + STREAM_BITS - 1) / STREAM_BITS)

// ACTIVATION

`define PSA_ACTIVATION_DESTINATION        4'd9
`define PSA_ACTIVATION_VALUE              0 +: 8
`define PSA_ACTIVATION_VALUE_BITS         8
`define PSA_ACTIVATION_BITS               8
`define PSA_ACTIVATION_BEATS              ((`PSA_ACTIVATION_BITS + STREAM_BITS - 1) / STREAM_BITS)
`define PSA_TABLE_WORDS                   256

// the records in PROGRAM

`define PSA_OPCODE_LAYER                  1
`define PSA_OPCODE_OUT                    2
`define PSA_OPCODE_END                    3
`define PSA_OPCODE_WAIT                   4
`define PSA_OPCODE_JUMP                   5
`define PSA_OUT_BANK                      `PSA_PROGRAM_WORDS
`define PSA_OUT_BASE                      `PSA_PROGRAM_PHASES
`define PSA_OUT_WORDS                     `PSA_PROGRAM_CHUNK_WORDS
`define PSA_WAIT_PACKETS                  `PSA_PROGRAM_WORDS
`define PSA_JUMP_TARGET                   `PSA_PROGRAM_WORDS
`define PSA_MODE_MAXIMUM                  1

// a stored row of slots: its count, and the patches that it has at most

`define PSA_ROW_COUNT_BITS                3
`define PSA_ROW_PATCHES                   4

// the header of a packet

`define PSA_HEADER_DESTINATION            0 +: 8
`define PSA_HEADER_DESTINATION_BITS       8
`define PSA_HEADER_BANK                   8 +: 8
`define PSA_HEADER_BANK_BITS              8
`define PSA_HEADER_WORDS                  16 +: 16
`define PSA_HEADER_WORDS_BITS             16
`define PSA_HEADER_ADDRESS                32 +: 32
`define PSA_HEADER_ADDRESS_BITS           32
`define PSA_HEADER_BITS                   64
`define PSA_HEADER_LIVE                   7
`define PSA_HOLD                          143
`define PSA_MEMORIES                      (TABLES == 0 ? 9 : 10)

// a descriptor

`define PSA_DESCRIPTOR_ADDRESS            0 +: 32
`define PSA_DESCRIPTOR_ADDRESS_BITS       32
`define PSA_DESCRIPTOR_LENGTH             32 +: 32
`define PSA_DESCRIPTOR_LENGTH_BITS        32
`define PSA_DESCRIPTOR_LAST               64 +: 1
`define PSA_DESCRIPTOR_LAST_BITS          1
`define PSA_DESCRIPTOR_START              65 +: 1
`define PSA_DESCRIPTOR_START_BITS         1
`define PSA_DESCRIPTOR_UNUSED             66 +: 30
`define PSA_DESCRIPTOR_UNUSED_BITS        30
`define PSA_DESCRIPTOR_ADDRESS_HIGH       96 +: 32
`define PSA_DESCRIPTOR_ADDRESS_HIGH_BITS  32
`define PSA_DESCRIPTOR_BITS               128

`endif
