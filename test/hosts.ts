import { spawnSync } from 'node:child_process'
import { TestDaemon, type Said } from './daemon.ts'

/** Runs a command to its end. */
export function execute(command: readonly string[], input = ''): Said {
  const [program = '', ...args] = command
  const { status, stdout, stderr } = spawnSync(program, args, { input, timeout: 20_000 })
  return { code: status ?? -1, out: stdout.toString(), err: stderr.toString() }
}

/** A host of a test's own: a daemon in a network namespace, and another namespace, `outside`, that it reaches by a link:
 * 198.51.100.1 and 2001:db8::1 are the host, 198.51.100.2 and 2001:db8::2 who is outside, with no route to what is
 * behind the host. */
export class TestHost extends TestDaemon {
  /** Processes that keep the two namespaces. */
  #outside = 0
  #keeper = 0

  override async start(env: NodeJS.ProcessEnv = {}, { flags = [] }: { flags?: readonly string[] } = {}): Promise<void> {
    const fresh = this.#outside === 0
    if (fresh) this.#outside = Number(execute(['sh', '-c', 'unshare -n sleep 100000 </dev/null >/dev/null 2>&1 & echo $!']).out)
    const enter = fresh ? ['unshare', '-n', 'sh', '-c', 'ip link set lo up && for f in /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding; do echo 0 > $f; done && exec "$@"', 'sh'] : ['nsenter', `--net=/proc/${this.#keeper}/ns/net`]
    await super.start(env, { flags, through: enter })
    if (!fresh) return
    this.#keeper = Number(execute(['nsenter', '-n', '-t', String(this.pid), 'sh', '-c', 'sleep 100000 </dev/null >/dev/null 2>&1 & echo $!']).out)
    const both = (host: string, outside: string): void => {
      for (const [where, command] of [[this.#keeper, host], [this.#outside, outside]] as const) {
        const { code, err } = execute(['nsenter', '-n', '-t', String(where), 'sh', '-ec', command])
        if (code !== 0) throw new Error(err)
      }
    }
    both(`ip link add up0 type veth peer name up0 netns ${this.#outside}; ip addr add 198.51.100.1/24 dev up0; ip addr add 2001:db8::1/64 dev up0 nodad; ip link set up0 up`, 'ip link set lo up; ip addr add 198.51.100.2/24 dev up0; ip addr add 2001:db8::2/64 dev up0 nodad; ip link set up0 up')
  }

  /** A process in the host's network namespace. */
  get keeper(): number {
    return this.#keeper
  }

  /** Runs a command in the host's network namespace. */
  onHost(...command: readonly string[]): Said {
    return execute(['nsenter', '-n', '-t', String(this.#keeper), ...command])
  }

  /** Runs a command outside of it. */
  outside(...command: readonly string[]): Said {
    return execute(['nsenter', '-n', '-t', String(this.#outside), ...command])
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]()
    for (const pid of [this.#keeper, this.#outside]) if (pid) process.kill(pid, 'SIGKILL')
  }
}
