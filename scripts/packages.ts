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
 * nothing but the C library. With `to`, a directory, they are only unpacked there, beside an older version that is
 * installed. */
export function installNewest(packages: Readonly<Record<string, string>>, to?: string): void {
  const missing = Object.entries(packages).filter(([file]) => !existsSync(file)).map(([, name]) => name)
  if (missing.length === 0) return
  const directory = mkdtempSync(join(tmpdir(), 'newest-'))
  try {
    for (const name of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(directory, name), { recursive: true })
    writeFileSync(join(directory, 'list'), 'deb http://deb.debian.org/debian sid main\n')
    const settings = [`Dir::Etc::sourcelist=${directory}/list`, 'Dir::Etc::sourceparts=/dev/null', `Dir::State::lists=${directory}/lists`, `Dir::Cache=${directory}/cache`, 'APT::Sandbox::User=root'].flatMap((setting) => ['-o', setting])
    execFileSync('apt-get', [...settings, 'update', '-q'], { stdio: 'inherit' })
    execFileSync('apt-get', [...settings, 'download', ...missing], { stdio: 'inherit', cwd: directory })
    const files = readdirSync(directory).filter((name) => name.endsWith('.deb')).map((name) => join(directory, name))
    if (to === undefined) execFileSync('dpkg', ['-i', ...files], { stdio: 'inherit' })
    else for (const file of files) execFileSync('dpkg', ['-x', file, to], { stdio: 'inherit' })
  } finally {
    rmSync(directory, { recursive: true })
  }
}
