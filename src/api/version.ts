import { invalid } from '../lib/errors.ts'

/** The versions of the Engine API that are served. */
export const API_VERSION = '1.55'
export const MIN_API_VERSION = '1.24'
export const BERTH_VERSION = '0.1.0'

/** An API version as a number that compares: 1.24 is 1024. */
export function versionNumber(version: string): number {
  const match = /^(\d+)\.(\d+)$/.exec(version)
  return match ? Number(match[1]) * 1000 + Number(match[2]) : NaN
}

/** Throws with Docker's words unless the version is served. */
export function checkVersion(version: string): void {
  const number = versionNumber(version)
  if (number < versionNumber(MIN_API_VERSION)) throw invalid(`client version ${version} is too old. Minimum supported API version is ${MIN_API_VERSION}, please upgrade your client to a newer version`)
  if (number > versionNumber(API_VERSION)) throw invalid(`client version ${version} is too new. Maximum supported API version is ${API_VERSION}`)
}
