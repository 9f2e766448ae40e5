// Unpacking a sample of a decision tree: columns that were packed one after another over all its examples.
"use strict";
((bild) => {
  const ARRAYS = { u1: Uint8Array, u2: Uint16Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };

  /** A packed column {type, data} as numbers; the integers of unsigned columns are stored one up, so that 0 is -1. */
  function column(packed) {
    const bytes = Uint8Array.from(atob(packed.data), (letter) => letter.charCodeAt(0));
    const values = new ARRAYS[packed.type](bytes.buffer);
    return packed.type.startsWith("u") ? Int32Array.from(values, (value) => value - 1) : values;
  }

  /** The nodes of one example: each column at its places `from` to `to`. */
  class Nodes {
    constructor(columns, from, to) {
      for (const [name, values] of Object.entries(columns)) this[name] = values.subarray(from, to);
      this.size = to - from;
      this.children = Array.from({ length: this.size }, () => null);
      for (let node = 1; node < this.size; node += 1) {
        const above = this.parent[node];
        this.children[above] ??= new Map();
        this.children[above].set(this.token[node], node);
      }
    }

    /** The node that `token` leads to. Throws Unknown where there is none. */
    child(node, token) {
      const found = this.children[node]?.get(token);
      if (found === undefined) throw new bild.Unknown("no such continuation was tried");
      return found;
    }
  }

  /** The examples' nodes of a bundled sample. */
  function unpackNodes(sample) {
    const columns = {};
    for (const [name, packed] of Object.entries(sample.columns)) columns[name] = column(packed);
    return sample.examples.map((_, i) => new Nodes(columns, sample.offsets[i], sample.offsets[i + 1]));
  }

  Object.assign(bild, { column, Nodes, unpackNodes });
})(globalThis.bild ??= {});
