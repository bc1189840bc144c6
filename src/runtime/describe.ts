import { capabilityNames } from '../libcontainer/capabilities.ts'
import type { Spec } from '../libcontainer/spec.ts'
import { architectures } from '../libcontainer/seccomp/profile.ts'
import { mountOptionNames } from '../libcontainer/mountflags.ts'
import { OCI_VERSION } from './state.ts'

/** The config.json that `spec` writes: a shell in a file system `rootfs` beside it. */
export function exampleSpec(): Spec {
  const capabilities = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE']
  const still = ['nosuid', 'noexec', 'nodev']
  return {
    ociVersion: OCI_VERSION,
    process: {
      terminal: true, user: { uid: 0, gid: 0 }, args: ['sh'], env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TERM=xterm'], cwd: '/',
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities }, rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }], noNewPrivileges: true,
    },
    root: { path: 'rootfs', readonly: true },
    hostname: 'berth',
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] },
      { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'] },
      { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: [...still, 'mode=1777', 'size=65536k'] },
      { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: still },
      { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...still, 'ro'] },
      { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: [...still, 'relatime', 'ro'] },
    ],
    linux: {
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      namespaces: [{ type: 'pid' }, { type: 'network' }, { type: 'ipc' }, { type: 'uts' }, { type: 'mount' }, { type: 'cgroup' }],
      maskedPaths: ['/proc/acpi', '/proc/asound', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/timer_list', '/proc/timer_stats', '/proc/sched_debug', '/proc/scsi', '/sys/firmware'],
      readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    },
  }
}

/** What `features` prints (runtime-spec, "Features Structure"). */
export function features(cgroupVersion: 1 | 2): object {
  return {
    ociVersionMin: '1.0.0', ociVersionMax: OCI_VERSION, hooks: ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'], mountOptions: mountOptionNames.toSorted(),
    linux: {
      namespaces: ['cgroup', 'ipc', 'mount', 'network', 'pid', 'time', 'user', 'uts'], capabilities: [...capabilityNames],
      cgroup: { v1: cgroupVersion === 1, v2: cgroupVersion === 2, systemd: false, systemdUser: false, rdma: false },
      seccomp: { enabled: true, archs: architectures, operators: ['SCMP_CMP_NE', 'SCMP_CMP_LT', 'SCMP_CMP_LE', 'SCMP_CMP_EQ', 'SCMP_CMP_GE', 'SCMP_CMP_GT', 'SCMP_CMP_MASKED_EQ'] },
      apparmor: { enabled: true }, selinux: { enabled: true }, intelRdt: { enabled: false }, mountExtensions: { idmap: { enabled: true } },
    },
  }
}
