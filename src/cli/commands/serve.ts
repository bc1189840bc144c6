import { BERTH_VERSION } from '../../api/version.ts'
import { humanSize } from '../../lib/units.ts'
import { messageOf } from '../../lib/errors.ts'
import { ExitError, command } from '../command.ts'

const ROOT = '/var/lib/berth-registry'

export const serve = command({
  usage: '',
  args: [0, 0],
  flags: {
    addr: { type: 'string', otherwise: ':5000', help: 'Where to listen: [HOST]:PORT' },
    root: { type: 'string', otherwise: ROOT, help: 'Directory of what is stored; that of Docker\'s registry can be taken over' },
    storage: { type: 'string', otherwise: 'filesystem', help: 'Storage driver: filesystem or memory' },
    'tls-cert': { type: 'string', help: 'Certificate file for TLS' },
    'tls-key': { type: 'string', help: 'Key file for TLS' },
    'tls-client-ca': { type: 'string', help: 'Take only clients with a certificate from this CA' },
    htpasswd: { type: 'string', help: 'File of names and bcrypt passwords' },
    realm: { type: 'string', otherwise: 'berth registry', help: 'What the login is for, as clients show it' },
    'token-realm': { type: 'string', help: 'URL of the server that gives tokens' },
    'token-service': { type: 'string', help: 'This registry\'s name in tokens' },
    'token-issuer': { type: 'string', help: 'The token server\'s name in tokens' },
    'token-roots': { type: 'string', help: 'PEM file of the certificates or keys that tokens are signed with' },
    rights: { type: 'string', help: 'JSON file of who may do what with which repositories' },
    proxy: { type: 'string', help: 'URL of a registry to be a pull-through cache of' },
    'proxy-username': { type: 'string', help: 'Name to show that registry' },
    'proxy-password': { type: 'string', help: 'Password to show that registry; better in BERTH_REGISTRY_PROXY_PASSWORD' },
    'pull-limit': { type: 'string', help: 'How many manifests each may pull, as in 100/6h' },
    'rate-limit': { type: 'string', help: 'How many requests an address may make, as in 200/s' },
    'max-blob-size': { type: 'bytes', help: 'The largest blob that is taken' },
    deletes: { type: 'bool', otherwise: true, help: 'Let tags, manifests and blobs be deleted' },
    metrics: { type: 'string', help: 'Where to serve /metrics for Prometheus: [HOST]:PORT' },
    'gc-interval': { type: 'duration', help: 'How often to collect garbage; SIGUSR1 does so at once' },
    'gc-untagged': { type: 'bool', help: 'Collect manifests without a tag, too' },
  },
  details: 'Serves a registry that docker, podman, skopeo, oras and others push to and pull from.',
  async run({ flags, session, console }) {
    if (Boolean(flags['tls-cert']) !== Boolean(flags['tls-key'])) throw new ExitError(1, 'TLS needs both --tls-cert and --tls-key')
    const { serveRegistry } = await import('../../registryserver/serve.ts')
    const serving = await serveRegistry({
      address: flags.addr, storage: flags.storage, root: flags.root, tls: { certificate: flags['tls-cert'], key: flags['tls-key'], clientCa: flags['tls-client-ca'] },
      htpasswd: flags.htpasswd, realm: flags.realm, token: { realm: flags['token-realm'], service: flags['token-service'], issuer: flags['token-issuer'], roots: flags['token-roots'] }, rights: flags.rights,
      proxy: { url: flags.proxy, username: flags['proxy-username'], password: flags['proxy-password'] || session.env['BERTH_REGISTRY_PROXY_PASSWORD'] || '' },
      pullLimit: flags['pull-limit'], rateLimit: flags['rate-limit'], maxBlob: flags['max-blob-size'], deletes: flags.deletes, metrics: flags.metrics, gcInterval: flags['gc-interval'] / 1e6, gcUntagged: flags['gc-untagged'],
      userAgent: `berth-registry/${BERTH_VERSION}`, warn: (message, error) => console.complain(error === undefined ? message : `${message}: ${messageOf(error)}`),
    })
    console.print(`Listening on ${serving.url}`)
    const { promise, resolve } = Promise.withResolvers<void>()
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve())
    process.on('SIGUSR1', () => void serving.collect().then(({ blobs, bytes, manifests }) => console.print(`Collected ${blobs} blobs, ${humanSize(bytes)}, and ${manifests} manifests`), (error: unknown) => console.complain(messageOf(error))))
    await promise
    await serving.close()
  },
})

export const gc = command({
  usage: '',
  args: [0, 0],
  flags: {
    root: { type: 'string', otherwise: ROOT, help: 'Directory of the registry, which must not be serving' },
    'delete-untagged': { type: 'bool', short: 'm', help: 'Delete manifests without a tag, too' },
    'dry-run': { type: 'bool', short: 'd', help: 'Only say what would be deleted' },
    grace: { type: 'duration', otherwise: 3600e9, help: 'Leave what was written or asked for within this time' },
  },
  async run({ flags, console }) {
    const { openStorage } = await import('../../registryserver/storage/drivers.ts')
    const { RegistryStore } = await import('../../registryserver/store.ts')
    const { collectGarbage } = await import('../../registryserver/gc.ts')
    const store = new RegistryStore(openStorage('filesystem', flags.root))
    try {
      const { blobs, bytes, manifests } = await collectGarbage(store, { untagged: flags['delete-untagged'], grace: flags.grace / 1e6, dryRun: flags['dry-run'] })
      console.print(`${flags['dry-run'] ? 'Would delete' : 'Deleted'} ${blobs} blobs, ${humanSize(bytes)}, and ${manifests} manifests`)
    } finally {
      await store.close()
    }
  },
})
