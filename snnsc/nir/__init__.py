"""NIR files, in and out: the graph format that SNN simulators and chips exchange. Never imports torch.

    read.read_nir (hdf5, graph, nodes) -> Graph -> lower.to_onnx (discrete) -> run.NirNetwork, snnsc.energy
    write.to_nir (encode, limits): the ONNX graph of one time step -> the bytes of a NIR file

NIR is described in Pedersen et al., Neuromorphic intermediate representation, Nature Communications 15, 2024. It gives
differential equations and no time step; how they are stepped here stands in `discrete`. Needs h5py: `snnsc[nir]`.
"""
