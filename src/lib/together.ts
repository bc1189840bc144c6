/** Waits for all; what fails first stops the others, and is thrown when they have ended. */
export async function together<T>(stop: AbortController, work: readonly Promise<T>[]): Promise<T[]> {
  let first: { error: unknown } | undefined
  for (const one of work)
    one.catch((error: unknown) => {
      first ??= { error }
      stop.abort(error)
    })
  const ended = await Promise.allSettled(work)
  if (first) throw first.error
  return ended.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
}
