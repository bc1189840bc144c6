/** True where the release `kernel` ("6.1.0-13-amd64") is `least` ("4.8") or later. */
export function kernelAtLeast(kernel: string, least: string): boolean {
  const [major = 0, minor = 0] = kernel.split(/[.-]/).map(Number)
  const [leastMajor = 0, leastMinor = 0] = least.split('.').map(Number)
  return major > leastMajor || (major === leastMajor && minor >= leastMinor)
}
