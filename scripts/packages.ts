import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'

/** Installs the Debian packages whose files are missing: a file of each, and the package's name. */
export function installPackages(packages: Readonly<Record<string, string>>): void {
  const missing = Object.entries(packages).filter(([file]) => !existsSync(file)).map(([, name]) => name)
  if (missing.length === 0) return
  execFileSync('apt-get', ['update', '-q'], { stdio: 'inherit' })
  execFileSync('apt-get', ['install', '-yq', '--no-install-recommends', ...missing], { stdio: 'inherit' })
}
