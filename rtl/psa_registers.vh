// Where the registers and their fields are (docs/registers.md), and the codes of errors.
//
// Rendered from pymodel/machine/registers.py and errors.py by `python -m scripts.registers`. A test fails
// when they differ.
//
//   PSA_REG_<register>          its address; of the DMA, DMA_<register>, from the first of them on
//   PSA_REG_<register>_<field>  the lowest bit of the field
//   PSA_REG_<register>_RESET    its value, of a register that always has the same
//   PSA_ERR_<name>              the code of an error in ERROR
//   PSA_DMA_ERR_<name>          ... and in DMA_ERROR

`ifndef PSA_REGISTERS_VH
`define PSA_REGISTERS_VH

// registers

`define PSA_REG_ID                        8'h00
`define PSA_REG_ID_RESET                  32'h5441544D
`define PSA_REG_VERSION                   8'h04
`define PSA_REG_VERSION_RESET             32'h00010001
`define PSA_REG_VERSION_MAJOR             16
`define PSA_REG_VERSION_MINOR             0
`define PSA_REG_SHAPE                     8'h08
`define PSA_REG_SHAPE_ROWS                0
`define PSA_REG_SHAPE_COLS                8
`define PSA_REG_SHAPE_GROUP               16
`define PSA_REG_SHAPE_WEIGHT_BITS         24
`define PSA_REG_DEPTH0                    8'h0C
`define PSA_REG_DEPTH0_FEATURE_DEPTH      0
`define PSA_REG_DEPTH0_ACC_WORDS          16
`define PSA_REG_DEPTH1                    8'h10
`define PSA_REG_DEPTH1_PROGRAM_DEPTH      0
`define PSA_REG_DEPTH1_TILE_DEPTH         16
`define PSA_REG_DEPTH2                    8'h14
`define PSA_REG_DEPTH2_LANE_DEPTH         0
`define PSA_REG_DEPTH2_GROUP_DEPTH        16
`define PSA_REG_DEPTH3                    8'h18
`define PSA_REG_DEPTH3_TAP_DEPTH          0
`define PSA_REG_DEPTH3_EDGE_DEPTH         16
`define PSA_REG_DEPTH4                    8'h1C
`define PSA_REG_DEPTH4_FILTER_DEPTH       0
`define PSA_REG_DEPTH4_TABLES             16
`define PSA_REG_DEPTH4_STREAM             20
`define PSA_REG_CONTROL                   8'h20
`define PSA_REG_CONTROL_START             0
`define PSA_REG_CONTROL_SOFT_RESET        1
`define PSA_REG_CONTROL_LOAD_RESET        2
`define PSA_REG_STATUS                    8'h24
`define PSA_REG_STATUS_BUSY               0
`define PSA_REG_STATUS_LOADING            1
`define PSA_REG_STATUS_ERROR              2
`define PSA_REG_STATUS_SENDING            3
`define PSA_REG_ERROR                     8'h28
`define PSA_REG_ERROR_CODE                0
`define PSA_REG_ERROR_INFO                8
`define PSA_REG_IRQ_ENABLE                8'h2C
`define PSA_REG_IRQ_ENABLE_DONE           0
`define PSA_REG_IRQ_ENABLE_ERROR          1
`define PSA_REG_IRQ_STATUS                8'h30
`define PSA_REG_IRQ_STATUS_DONE           0
`define PSA_REG_IRQ_STATUS_ERROR          1
`define PSA_REG_PROGRAM_START             8'h34
`define PSA_REG_PROGRAM_START_ADDRESS     0
`define PSA_REG_XOR                       8'h38
`define PSA_REG_XOR_XOR_INPUTS            0
`define PSA_REG_XOR_XOR_HISTORY           16
`define PSA_REG_XOR_SEED                  8'h3C
`define PSA_REG_XOR_SEED_XOR_SEED         0
`define PSA_REG_CYCLES                    8'h40
`define PSA_REG_BUSY_CYCLES               8'h44
`define PSA_REG_STALL_CYCLES              8'h48
`define PSA_REG_SLOT_ROWS                 8'h4C
`define PSA_REG_WORDS                     8'h50
`define PSA_REG_LOAD_WAIT_CYCLES          8'h54
`define PSA_REG_DMA_ID                    8'h00
`define PSA_REG_DMA_ID_RESET              32'h54444D41
`define PSA_REG_DMA_VERSION               8'h04
`define PSA_REG_DMA_VERSION_RESET         32'h00010000
`define PSA_REG_DMA_VERSION_MAJOR         16
`define PSA_REG_DMA_VERSION_MINOR         0
`define PSA_REG_DMA_SHAPE                 8'h08
`define PSA_REG_DMA_SHAPE_BEAT            0
`define PSA_REG_DMA_SHAPE_WORD            8
`define PSA_REG_DMA_CONTROL               8'h20
`define PSA_REG_DMA_CONTROL_RESET         0
`define PSA_REG_DMA_STATUS                8'h24
`define PSA_REG_DMA_STATUS_BUSY           0
`define PSA_REG_DMA_STATUS_ERROR          1
`define PSA_REG_DMA_ERROR                 8'h28
`define PSA_REG_DMA_ERROR_CODE            0
`define PSA_REG_DMA_ERROR_INFO            8
`define PSA_REG_DMA_IRQ_ENABLE            8'h2C
`define PSA_REG_DMA_IRQ_ENABLE_DONE       0
`define PSA_REG_DMA_IRQ_ENABLE_ERROR      1
`define PSA_REG_DMA_IRQ_STATUS            8'h30
`define PSA_REG_DMA_IRQ_STATUS_DONE       0
`define PSA_REG_DMA_IRQ_STATUS_ERROR      1
`define PSA_REG_DMA_OUT_SIZE              8'h34
`define PSA_REG_DMA_LIST                  8'h38
`define PSA_REG_DMA_OUT                   8'h3C
`define PSA_REG_DMA_GO                    8'h40
`define PSA_REG_DMA_GO_COUNT              0
`define PSA_REG_DMA_OUT_USED              8'h44

// errors of the machine

`define PSA_ERR_NONE                      8'd0
`define PSA_ERR_LOAD_DESTINATION          8'd1
`define PSA_ERR_LOAD_RANGE                8'd2
`define PSA_ERR_LOAD_SHORT                8'd3
`define PSA_ERR_LOAD_LONG                 8'd4
`define PSA_ERR_PROGRAM_RANGE             8'd5
`define PSA_ERR_PROGRAM_OPCODE            8'd6
`define PSA_ERR_PROGRAM_FIELD             8'd7
`define PSA_ERR_TILE_FIELD                8'd8
`define PSA_ERR_GROUP_RANGE               8'd9
`define PSA_ERR_TAP_RANGE                 8'd10
`define PSA_ERR_FEATURE_READ              8'd11
`define PSA_ERR_FEATURE_WRITE             8'd12
`define PSA_ERR_SLOT_RANGE                8'd13
`define PSA_ERR_SLOT_CODE                 8'd14
`define PSA_ERR_TABLE_RANGE               8'd15
`define PSA_ERR_DEADLOCK                  8'd16
`define PSA_ERR_LOAD_CUT                  8'd17

// errors of the DMA

`define PSA_DMA_ERR_NONE                  8'd0
`define PSA_DMA_ERR_LIST_READ             8'd1
`define PSA_DMA_ERR_LIST_ADDRESS          8'd2
`define PSA_DMA_ERR_LIST_LENGTH           8'd3
`define PSA_DMA_ERR_LIST_FLAGS            8'd4
`define PSA_DMA_ERR_LIST_PACKET           8'd5
`define PSA_DMA_ERR_DATA_READ             8'd6
`define PSA_DMA_ERR_OUT_SIZE              8'd7
`define PSA_DMA_ERR_OUT_WRITE             8'd8
`define PSA_DMA_ERR_MACHINE               8'd9
`define PSA_DMA_ERR_REFUSED               8'd10

`endif
