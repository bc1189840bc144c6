/** True where labels have `NAME`, or `NAME=VALUE`. */
export function hasLabel(labels: Readonly<Record<string, string>>, wanted: string): boolean {
  const equals = wanted.indexOf('=')
  return equals < 0 ? Object.hasOwn(labels, wanted) : Object.hasOwn(labels, wanted.slice(0, equals)) && labels[wanted.slice(0, equals)] === wanted.slice(equals + 1)
}

/** True where labels have all that filter `label` names, and none that `label!` does. */
export function passesLabels(labels: Readonly<Record<string, string>>, filters: ReadonlyMap<string, readonly string[]>): boolean {
  return (filters.get('label') ?? []).every((label) => hasLabel(labels, label)) && !(filters.get('label!') ?? []).some((label) => hasLabel(labels, label))
}
