# Beside the makefile that Verilator writes: a header compiled with the flags of the design's C++.
include Vtop.mk

%.h.gch: %.h
	$(CXX) $(OPT_FAST) $(CXXFLAGS) $(CPPFLAGS) $(CFG_CXXFLAGS_PCH) $< -o $@
