import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Installs the Debian packages whose files are missing: a file of each, and the package's name. */
export function installPackages(packages: Readonly<Record<string, string>>): void {
  const missing = Object.entries(packages).filter(([file]) => !existsSync(file)).map(([, name]) => name)
  if (missing.length === 0) return
  execFileSync('apt-get', ['update', '-q'], { stdio: 'inherit' })
  execFileSync('apt-get', ['install', '-yq', '--no-install-recommends', ...missing], { stdio: 'inherit' })
}

/** As `installPackages`, from Debian's newest, without making it one of the machine's sources; for packages that need
 * nothing but the C library. */
export function installNewest(packages: Readonly<Record<string, string>>): void {
  const missing = Object.entries(packages).filter(([file]) => !existsSync(file)).map(([, name]) => name)
  if (missing.length === 0) return
  const directory = mkdtempSync(join(tmpdir(), 'newest-'))
  try {
    for (const name of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(directory, name), { recursive: true })
    writeFileSync(join(directory, 'list'), 'deb http://deb.debian.org/debian sid main\n')
    const settings = [`Dir::Etc::sourcelist=${directory}/list`, 'Dir::Etc::sourceparts=/dev/null', `Dir::State::lists=${directory}/lists`, `Dir::Cache=${directory}/cache`, 'APT::Sandbox::User=root'].flatMap((setting) => ['-o', setting])
    execFileSync('apt-get', [...settings, 'update', '-q'], { stdio: 'inherit' })
    execFileSync('apt-get', [...settings, 'download', ...missing], { stdio: 'inherit', cwd: directory })
    execFileSync('dpkg', ['-i', ...readdirSync(directory).filter((name) => name.endsWith('.deb')).map((name) => join(directory, name))], { stdio: 'inherit' })
  } finally {
    rmSync(directory, { recursive: true })
  }
}
