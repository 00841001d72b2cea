// A tree of path patterns: "/v1/customers/{id}" against "/v1/customers/cus_1". A literal segment wins over
// a placeholder, so /v1/customers/search is never taken for a customer called "search".
// Used for the OpenAPI documents and for the handlers of a provider alike.

export class PathTree {
  #root = { literal: new Map(), any: null, byMethod: null };

  add(method, pattern, value) {
    let node = this.#root;
    const names = [];
    for (const segment of pattern.slice(1).split('/')) {
      const placeholder = /^\{(\w+)\}$/.exec(segment);
      if (placeholder) {
        names.push(placeholder[1]);
        node = node.any ??= { literal: new Map(), any: null, byMethod: null };
      } else {
        if (!node.literal.has(segment)) node.literal.set(segment, { literal: new Map(), any: null, byMethod: null });
        node = node.literal.get(segment);
      }
    }
    node.byMethod ??= new Map();
    node.byMethod.set(method.toUpperCase(), { value, names });
  }

  // -> {value, params} or null. The params are in the order of the pattern.
  find(method, path) {
    const segments = path.slice(1).split('/');
    const found = this.#walk(this.#root, segments, 0, method, []);
    if (!found) return null;
    const params = {};
    found.entry.names.forEach((name, i) => (params[name] = found.values[i]));
    return { value: found.entry.value, params };
  }

  #walk(node, segments, i, method, values) {
    if (i === segments.length) {
      const entry = node.byMethod?.get(method);
      return entry ? { entry, values } : null;
    }
    const literal = node.literal.get(segments[i]);
    const found = literal && this.#walk(literal, segments, i + 1, method, values);
    if (found) return found;
    if (!node.any || segments[i] === '') return null;
    return this.#walk(node.any, segments, i + 1, method, [...values, decodeURIComponent(segments[i])]);
  }
}
