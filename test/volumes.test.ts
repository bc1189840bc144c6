import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { TestDaemon, makeStarter } from './daemon.ts'

const daemon = new TestDaemon()
const berth = (...args: string[]) => daemon.cli(args)
const { ok, refused } = daemon
const volumesDirectory = (name = '', file = ''): string => join(daemon.directory, 'data/volumes', name, name && '_data', file)
const names = (...filters: string[]): string[] => ok('volume', 'ls', '-q', ...filters.flatMap((filter) => ['-f', filter])).split('\n').filter(Boolean)
/** What the daemon has mounted. */
const mounted = (): string[] => readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((line) => line.includes(daemon.directory) && !line.includes('/merged'))

before(async () => {
  await daemon.start()
  await daemon.importStarter()
  // an image with a directory of bob's, which it wants to be a volume
  const tree = join(daemon.directory, 'tree')
  makeStarter(tree)
  mkdirSync(join(tree, 'data/below'), { recursive: true })
  writeFileSync(join(tree, 'data/seed'), 'seed')
  symlinkSync('/etc', join(tree, 'data/link'))
  execFileSync('sh', ['-c', `chown -R 1000:1000 ${tree}/data && chmod 750 ${tree}/data && tar c -C ${tree} . > ${tree}.tar`])
  ok('import', '-c', 'VOLUME /data', `${tree}.tar`, 'seeded')
  ok('import', `${tree}.tar`, 'plain')
})
after(() => daemon[Symbol.asyncDispose]())

test('a volume keeps what containers write, and an empty one begins with what the image has', () => {
  ok('volume', 'create', 'kept')
  ok('run', '--rm', '-v', 'kept:/x', 'starter', 'sh', '-c', 'echo text > /x/file')
  assert.equal(ok('run', '--rm', '-v', 'kept:/y:ro', 'starter', 'cat', '/y/file'), 'text')
  assert.match(refused('run', '--rm', '-v', 'kept:/y:ro', 'starter', 'touch', '/y/new'), /Read-only file system/)
  assert.equal(ok('run', '--rm', '-v', 'filled:/data', 'plain', 'sh', '-c', 'cat /data/seed; stat -c " %u:%g %a" /data; readlink /data/link'), 'seed 1000:1000 750\n/etc')
  assert.equal(ok('run', '--rm', '-v', 'bare:/data:nocopy', 'plain', 'ls', '/data'), '')
  assert.equal(ok('run', '--rm', '-v', 'kept:/data', 'plain', 'ls', '/data'), 'file', 'what has something is not filled')
  assert.match(refused('run', '--rm', '-v', 'other:/etc/passwd', 'starter', 'true'), /cannot mount volume over existing file, file exists \/etc\/passwd/)
  ok('volume', 'rm', 'kept', 'filled', 'bare', 'other')
})

test('containers that are made at once have the same volume, filled once', async () => {
  const runs = await Promise.all(Array.from({ length: 6 }, () => daemon.cliBeside(['run', '--rm', '-v', 'shared:/data', 'plain', 'sh', '-c', 'cat /data/seed; echo $HOSTNAME >> /data/who'])))
  assert.deepEqual(runs.map(({ code, out }) => ({ code, out })), runs.map(() => ({ code: 0, out: 'seed' })))
  assert.equal(readFileSync(volumesDirectory('shared', 'who'), 'utf8').trim().split('\n').length, 6)
  ok('volume', 'rm', 'shared')
})

test('who asks for nonsense is told what is wrong', () => {
  const cases: [args: string[], error: RegExp][] = [
    [['-v', 'v1:/x:rshared'], /'v1:\/x:rshared': invalid mount config for type "volume": field BindOptions must not be specified/],
    [['-v', '/tmp:/x:nocopy'], /type "bind": field VolumeOptions must not be specified/],
    [['-v', '/a:rw'], /invalid volume specification: '\/a:rw'/],
    [['-v', 'v1:/x:ro,rw'], /invalid mode: ro,rw/],
    [['-v', 'v1:/'], /invalid specification: destination can't be '\/'/],
    [['-v', 'v1:rel'], /invalid mount path: 'rel' mount path must be absolute/],
    [['-v', 'x y:/z'], /create x y: "x y" includes invalid characters for a local volume name/],
    [['-v', 'v1:/x', '-v', 'v2:/x'], /Duplicate mount point: \/x/],
    [['-v', 'v1:/x', '--tmpfs', '/x'], /Duplicate mount point: \/x/],
    [['--mount', 'type=bind,src=/nope,dst=/x'], /bind source path does not exist: \/nope/],
    [['--mount', 'type=volume,dst=/x,ro'], /must not set ReadOnly mode when using anonymous volumes/],
    [['--mount', 'type=tmpfs,dst=/x,src=/y'], /type "tmpfs": field Source must not be specified/],
    [['--mount', 'type=foo,dst=/x'], /invalid mount config for type "foo": mount type unknown/],
    [['--mount', 'type=image,dst=/x,src=nope'], /No such image: nope/],
    [['--mount', 'type=volume,src=v1,dst=/x,volume-subpath=../y'], /subpath must be a relative path/],
    [['--volumes-from', 'nope'], /No such container: nope/],
    [['--volume-driver', 'nope', '-v', 'v1:/x'], /create v1: error looking up volume plugin nope: plugin "nope" not found/],
  ]
  for (const [args, error] of cases) assert.match(refused('run', '--rm', ...args, 'starter', 'true'), error)
  assert.deepEqual([names(), ok('ps', '-aq')], [[], ''], 'nothing is left of them')
  assert.match(refused('volume', 'create', 'a'), /volume name is too short/)
  assert.match(refused('volume', 'create', '-o', 'foo=bar', 'v2'), /create v2: invalid option: "foo"/)
  assert.match(refused('volume', 'create', '-o', 'type=tmpfs', 'v2'), /missing required option: "device"/)
  assert.match(refused('volume', 'create', '-o', 'size=1x', 'v2'), /invalid size/)
  assert.match(refused('volume', 'rm', 'v2'), /get v2: no such volume/)
  assert.equal(ok('volume', 'rm', '-f', 'v2'), 'v2')
  assert.match(refused('volume', 'ls', '-f', 'dangling=maybe'), /invalid filter 'dangling=\[maybe\]'/)
})

test('anonymous volumes go with their container where that is asked, and named ones stay', async () => {
  ok('create', '--name', 'one', '-v', '/anonymous', '-v', 'named:/named', 'seeded', 'true')
  assert.equal(names().length, 3)
  assert.match(refused('volume', 'rm', 'named'), /remove named: volume is in use - \[[0-9a-f]{64}\]/)
  ok('create', '--name', 'two', '--volumes-from', 'one', 'starter', 'true')
  ok('rm', '-v', 'one')
  assert.equal(names().length, 3, 'the other container has them')
  assert.equal(names('dangling=true').length, 0)
  ok('rm', '-v', 'two')
  assert.deepEqual([names('dangling=true').length, names('name=named')], [3, ['named']])
  const pruned = await daemon.call('POST', '/volumes/prune')
  assert.deepEqual([pruned.body.VolumesDeleted.length, pruned.body.SpaceReclaimed, names()], [2, 4, ['named']])
  ok('run', '--rm', '-v', '/gone', 'seeded', 'true')
  assert.deepEqual(names(), ['named'], '--rm takes them along')
  assert.match(ok('volume', 'prune', '-f', '-a'), /Deleted Volumes:\nnamed\n/)
})

test('volumes of other containers, as these have them or read-only', () => {
  ok('run', '-d', '--name', 'lender', '-v', 'lent:/x', '-v', `${daemon.directory}:/host:ro`, '--mount', 'type=tmpfs,dst=/t', 'starter', 'sleep', '1000')
  assert.equal(ok('run', '--rm', '--volumes-from', 'lender', 'starter', 'sh', '-c', 'echo hi > /x/file; ls -d /host/data; touch /host/no 2>&1; true'), '/host/data\ntouch: /host/no: Read-only file system')
  assert.match(refused('run', '--rm', '--volumes-from', 'lender:ro', 'starter', 'sh', '-c', 'cat /x/file && touch /x/new'), /Read-only/)
  assert.match(refused('run', '--rm', '--volumes-from', 'lender:odd', 'starter', 'true'), /invalid mode: odd/)
  const mounts = JSON.parse(ok('inspect', '-f', '{{json .Mounts}}', 'lender')) as { Type: string, Name?: string, Destination: string, Mode: string, RW: boolean, Propagation: string, Source: string }[]
  assert.deepEqual(mounts.find(({ Type }) => Type === 'volume'), { Type: 'volume', Name: 'lent', Source: volumesDirectory('lent').replace(/\/$/, ''), Destination: '/x', Driver: 'local', Mode: 'z', RW: true, Propagation: '' })
  const { Mode, RW, Propagation } = mounts.find(({ Type }) => Type === 'bind')!
  assert.deepEqual([Mode, RW, Propagation], ['ro', false, 'rslave'], "what holds the engine's own mounts must not keep them")
  assert.equal(ok('ps', '-q', '-f', 'volume=lent').length, 12)
  ok('rm', '-f', 'lender')
  ok('volume', 'rm', 'lent')
})

test('what a volume is made of is mounted while somebody has it', async () => {
  ok('volume', 'create', '-o', 'type=tmpfs', '-o', 'device=tmpfs', '-o', 'o=size=2m,uid=1000', 'memory')
  ok('run', '-d', '--name', 'holder', '-v', 'memory:/x', 'starter', 'sleep', '1000')
  assert.equal(ok('run', '--rm', '-v', 'memory:/y', 'starter', 'sh', '-c', 'touch /y/seen; stat -c %u /y'), '1000')
  assert.equal(ok('exec', 'holder', 'ls', '/x'), 'seen')
  assert.equal(mounted().length, 1)
  await daemon.stop('SIGKILL')
  await daemon.start()
  assert.equal(ok('run', '--rm', '-v', 'memory:/y', 'starter', 'ls', '/y'), 'seen', 'the same memory, after the engine was killed')
  ok('rm', '-f', 'holder')
  assert.deepEqual(mounted(), [])
  mkdirSync(join(daemon.directory, 'source'))
  ok('volume', 'create', '-o', 'type=none', '-o', `device=${daemon.directory}/source`, '-o', 'o=bind,ro', 'bound')
  assert.match(refused('run', '--rm', '-v', 'bound:/x', 'starter', 'touch', '/x/a'), /Read-only/)
  const disk = join(daemon.directory, 'disk')
  execFileSync('sh', ['-c', `truncate -s 8M ${disk} && mkfs.ext4 -q ${disk}`])
  ok('volume', 'create', '-o', 'type=ext4', '-o', `device=${disk}`, '-o', 'o=loop', 'disk')
  ok('run', '--rm', '-v', 'disk:/x', 'starter', 'sh', '-c', 'echo kept > /x/file')
  assert.equal(ok('run', '--rm', '-v', 'disk:/x:ro', 'starter', 'cat', '/x/file'), 'kept')
  assert.match(berth('run', '--rm', '-v', 'disk:/x', 'starter', 'dd', 'if=/dev/zero', 'of=/x/big', 'bs=1M', 'count=20').err, /No space left on device/)
  ok('volume', 'create', '-o', 'type=none', '-o', 'device=/nonexistent', '-o', 'o=bind', 'bad')
  assert.match(refused('run', '--rm', '-v', 'bad:/x', 'starter', 'true'), /error while mounting volume '.*\/bad\/_data': failed to mount local volume: mount \/nonexistent:.*, flags: 0x1000: no such file or directory/)
  assert.deepEqual([mounted(), ok('ps', '-aq')], [[], ''])
  for (let tries = 0; tries < 100 && execFileSync('losetup', ['-j', disk]).length; tries++) await sleep(20)
  assert.equal(execFileSync('losetup', ['-j', disk]).toString(), '')
  ok('volume', 'rm', 'memory', 'bound', 'bad', 'disk')
})

test('files are copied to and from the volumes of a container that does not run', () => {
  writeFileSync(join(daemon.directory, 'new'), 'new')
  ok('create', '--name', 'still', '-v', 'still:/data', '-v', '/etc:/host:ro', 'plain', 'true')
  ok('cp', join(daemon.directory, 'new'), 'still:/data/new')
  assert.equal(readFileSync(volumesDirectory('still', 'new'), 'utf8'), 'new')
  assert.match(refused('cp', join(daemon.directory, 'new'), 'still:/host/new'), /mounted volume is marked read-only/)
  ok('cp', 'still:/data', join(daemon.directory, 'copied'))
  assert.deepEqual(readdirSync(join(daemon.directory, 'copied')).toSorted(), ['below', 'link', 'new', 'seed'])
  ok('cp', 'still:/host/hostname', join(daemon.directory, 'name'))
  assert.equal(readFileSync(join(daemon.directory, 'name'), 'utf8'), readFileSync('/etc/hostname', 'utf8'))
  assert.deepEqual([mounted(), readdirSync(join(daemon.directory, 'run/mounts'))], [[], []])
  ok('rm', 'still')
  ok('volume', 'rm', 'still')
})

test('an image in a container, and parts of images and volumes, which lead nowhere else', () => {
  const mount = (options: string): string[] => ['run', '--rm', '--mount', `${options},dst=/i`, 'starter']
  assert.equal(ok(...mount('type=image,src=plain'), 'cat', '/i/data/seed'), 'seed')
  assert.match(refused(...mount('type=image,src=plain'), 'touch', '/i/x'), /Read-only/)
  assert.equal(ok(...mount('type=image,src=plain,image-subpath=data'), 'ls', '/i'), 'below\nlink\nseed')
  assert.match(refused(...mount('type=image,src=plain,image-subpath=nope'), 'ls', '/i'), /cannot access path "nope" in image plain: no such file or directory/)
  ok('run', '--rm', '-v', 'parts:/data', 'plain', 'sh', '-c', 'echo f > /data/below/file; ln -s /proc /data/way')
  assert.equal(ok(...mount('type=volume,src=parts,volume-subpath=below'), 'ls', '/i'), 'file')
  assert.equal(ok(...mount('type=volume,src=parts,volume-subpath=below/file'), 'cat', '/i'), 'f')
  assert.match(refused(...mount('type=volume,src=parts,volume-subpath=link'), 'ls', '/i'), /cannot access path "link" in volume parts/)
  assert.match(refused(...mount('type=volume,src=parts,volume-subpath=way'), 'ls', '/i'), /cannot access path "way"/)
  ok('create', '--name', 'user', '--mount', 'type=image,src=plain,dst=/i', 'starter', 'true')
  assert.match(refused('rmi', 'plain'), /conflict/)
  ok('rm', 'user')
  assert.deepEqual([mounted(), readdirSync(join(daemon.directory, 'run/mounts'))], [[], []])
  ok('volume', 'rm', 'parts')
})

test('snapshots stay, clones go on, names change, archives go in and out', () => {
  ok('run', '-d', '--name', 'writer', '-v', 'origin:/data', 'plain', 'sh', '-c', 'i=0; while true; do i=$((i+1)); echo $i > /data/a; echo $i > /data/b; done')
  assert.match(ok('volume', 'snapshot', 'origin'), /^origin-\d{14}$/)
  ok('volume', 'snapshot', 'origin', 'snap')
  assert.equal(ok('inspect', '-f', '{{.State.Status}}', 'writer'), 'running', 'it goes on')
  const [a, b] = ['a', 'b'].map((file) => Number(readFileSync(volumesDirectory('snap', file), 'utf8') || NaN))
  assert.ok(a! - b! === 0 || a! - b! === 1 || Number.isNaN(a! - b!), `of one moment: ${a} ${b}`)
  assert.match(refused('run', '--rm', '-v', 'snap:/s', 'starter', 'touch', '/s/x'), /Read-only/)
  ok('volume', 'clone', '--label', 'from=snap', 'snap', 'back')
  ok('run', '--rm', '-v', 'back:/s', 'starter', 'touch', '/s/x')
  assert.equal(statSync(volumesDirectory('back', 'seed')).uid, 1000)
  assert.deepEqual(names('label=from=snap'), ['back'])
  assert.match(refused('volume', 'clone', 'nope', 'x1'), /get nope: no such volume/)
  assert.match(refused('volume', 'clone', 'snap', 'back'), /a volume named back exists already/)
  assert.match(refused('volume', 'rename', 'origin', 'new'), /rename origin: volume is in use/)
  ok('volume', 'rename', 'back', 'forth')
  assert.match(refused('volume', 'rename', 'forth', 'snap'), /a volume named snap exists already/)
  const archive = join(daemon.directory, 'forth.tar')
  ok('volume', 'export', '-o', archive, 'forth')
  execFileSync('gzip', ['-kf', archive])
  ok('volume', 'import', `${archive}.gz`, 'imported')
  assert.equal(ok('run', '--rm', '-v', 'imported:/s', 'starter', 'sh', '-c', 'cat /s/seed; stat -c " %u" /s/seed; ls /s/x'), 'seed 1000\n/s/x')
  assert.match(refused('volume', 'import', archive, 'snap'), /snap is a snapshot of origin, and stays as it is/)
  writeFileSync(join(daemon.directory, 'junk'), 'junk')
  assert.match(refused('volume', 'import', join(daemon.directory, 'junk'), 'junk'), /unexpected EOF/)
  assert.ok(!names().includes('junk') && !existsSync(volumesDirectory('junk')))
  ok('rm', '-f', 'writer')
  ok('volume', 'prune', '-af')
})

test('mounts are added to a container that runs, and removed, and stay over its restart', async () => {
  mkdirSync(join(daemon.directory, 'later'))
  writeFileSync(join(daemon.directory, 'later/file'), 'later')
  ok('run', '-d', '--name', 'grows', '-v', 'first:/first', 'starter', 'sleep', '1000')
  ok('update', '--mount-add', `type=bind,src=${daemon.directory}/later,dst=/new/bind,ro`, '--mount-add', 'type=volume,src=second,dst=/second', '--mount-add', 'type=tmpfs,dst=/scratch,tmpfs-size=1m', '--mount-add', 'type=image,src=plain,dst=/image,image-subpath=data', 'grows')
  const script = 'cat /new/bind/file; touch /new/bind/x 2>/dev/null || echo " ro"; echo kept > /second/file; stat -f -c %T /scratch; cat /image/seed'
  assert.equal(ok('exec', 'grows', 'sh', '-c', script), 'later ro\ntmpfs\nseed')
  assert.match(refused('volume', 'rm', 'second'), /volume is in use/)
  assert.match(refused('update', '--mount-add', 'type=volume,src=third,dst=/second', 'grows'), /Duplicate mount point: \/second/)
  assert.match(refused('update', '--mount-add', 'type=bind,src=/nope,dst=/x', 'grows'), /bind source path does not exist: \/nope/)
  assert.match(refused('update', '--mount-rm', '/none', 'grows'), /No such mount: \/none in container grows/)
  ok('exec', 'grows', 'sh', '-c', 'ln -s / /away; ln -s /etc /escape')
  ok('update', '--mount-add', `type=bind,src=${daemon.directory}/later,dst=/escape/inside`, 'grows')
  assert.ok(!existsSync('/etc/inside'), 'links lead nowhere else')
  ok('update', '--mount-rm', '/escape/inside', 'grows')
  ok('restart', '-t', '0', 'grows')
  assert.equal(ok('exec', 'grows', 'sh', '-c', 'cat /second/file /new/bind/file'), 'kept\nlater')
  assert.equal(JSON.parse(ok('inspect', '-f', '{{json .Mounts}}', 'grows')).length, 5)
  ok('update', '--mount-rm', '/second', '--mount-rm', '/image', '--mount-rm', '/first', 'grows')
  assert.equal(ok('exec', 'grows', 'sh', '-c', 'ls /second /image /first'), '/first:\n\n/image:\n\n/second:')
  ok('volume', 'rm', 'second', 'first')
  ok('rm', '-f', 'grows')
  assert.deepEqual([mounted(), readdirSync(join(daemon.directory, 'run/mounts'))], [[], []])
})

test('an engine that is killed anywhere comes back to volumes that are whole, and to no others', async () => {
  for (const point of ['create.volumes', 'create.layer', 'create.filled', 'start.mounts', 'start.started', 'remove.record']) {
    await daemon.stop()
    await daemon.start({ BERTH_FAILPOINT: point })
    berth('run', '--rm', '-v', 'survivor:/data', '-v', '/anonymous', '--mount', 'type=image,src=plain,dst=/i', 'plain', 'true')
    await daemon.ended()
    await daemon.start()
    berth('rm', '-f', '-v', ...ok('ps', '-aq').split('\n').filter(Boolean))
    ok('volume', 'prune', '-f')
    assert.deepEqual([names(), mounted()], [['survivor'], []], point)
    assert.equal(ok('run', '--rm', '-v', 'survivor:/data', 'plain', 'cat', '/data/seed'), 'seed', point)
    assert.deepEqual(readdirSync(volumesDirectory()), ['survivor'], point)
    ok('volume', 'rm', 'survivor')
  }
})

test('the API says what a volume is, who has it, and how large it is', async () => {
  const made = await daemon.call('POST', '/volumes/create', { Name: 'told', Labels: { a: 'b' } })
  assert.equal(made.status, 201)
  assert.deepEqual({ ...made.body, CreatedAt: '' }, { CreatedAt: '', Driver: 'local', Labels: { a: 'b' }, Mountpoint: volumesDirectory('told').replace(/\/$/, ''), Name: 'told', Options: null, Scope: 'local' })
  assert.equal((await daemon.call('POST', '/volumes/create', { Name: 'told', Driver: 'local' })).status, 201)
  assert.equal((await daemon.call('POST', '/volumes/create', { Name: 7 })).status, 400)
  assert.equal((await daemon.call('GET', '/volumes/nope')).status, 404)
  const unnamed = await daemon.call('POST', '/volumes/create', {})
  assert.match(unnamed.body.Name, /^[0-9a-f]{64}$/)
  ok('create', '--name', 'has', '-v', 'told:/x', 'starter', 'true')
  writeFileSync(volumesDirectory('told', 'file'), 'x'.repeat(1000))
  const { body: usage } = await daemon.call('GET', '/system/df')
  assert.deepEqual(usage.Volumes.find(({ Name }: { Name: string }) => Name === 'told').UsageData, { RefCount: 1, Size: 1000 })
  assert.equal((await daemon.call('DELETE', '/volumes/told')).status, 409)
  ok('rm', 'has')
  assert.equal((await daemon.call('DELETE', '/volumes/told')).status, 204)
  const old = await daemon.call('POST', '/v1.41/volumes/prune')
  assert.equal(old.body.VolumesDeleted.length, 1)
})

test('a plugin keeps volumes, is told of every use, and says what fails', async () => {
  const name = `berth-plugin-${process.pid}`
  const socket = `/run/docker/plugins/${name}.sock`
  const kept = join(daemon.directory, 'plugin')
  mkdirSync(join(kept, 'shown'), { recursive: true })
  const calls: string[] = []
  const answers: Record<string, (body: { Name: string }) => object> = {
    'Plugin.Activate': () => ({ Implements: ['VolumeDriver'] }), 'VolumeDriver.Capabilities': () => ({ Capabilities: { Scope: 'global' } }),
    'VolumeDriver.Create': ({ Name }) => (Name === 'broken' ? { Err: 'out of shelves' } : (mkdirSync(join(kept, Name)), {})),
    'VolumeDriver.Remove': () => ({}), 'VolumeDriver.Unmount': () => ({}),
    'VolumeDriver.Mount': ({ Name }) => ({ Mountpoint: join(kept, Name) }), 'VolumeDriver.Path': ({ Name }) => ({ Mountpoint: join(kept, Name) }),
    'VolumeDriver.Get': ({ Name }) => ({ Volume: { Name, Status: { shelf: 3 } } }), 'VolumeDriver.List': () => ({ Volumes: [{ Name: 'shown' }] }),
  }
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const method = request.url!.slice(1)
      calls.push(method.split('.')[1]!)
      response.end(JSON.stringify(answers[method]!(JSON.parse(Buffer.concat(chunks).toString() || '{}'))))
    })
  })
  mkdirSync('/run/docker/plugins', { recursive: true })
  await new Promise<void>((resolve) => server.listen(socket, resolve))
  const beside = async (...args: string[]): Promise<string> => {
    const { code, out, err } = await daemon.cliBeside(args)
    return code === 0 ? out.trim() : `error: ${err}`
  }
  try {
    assert.equal(await beside('run', '--rm', '-v', 'mine:/x', '--volume-driver', name, 'starter', 'sh', '-c', 'echo far > /x/file'), '')
    assert.equal(readFileSync(join(kept, 'mine/file'), 'utf8'), 'far\n')
    assert.deepEqual([calls.filter((call) => call === 'Create').length, calls.filter((call) => call === 'Mount').length, calls.filter((call) => call === 'Unmount').length], [1, 2, 2], 'once to fill it, once to run')
    assert.match(await beside('volume', 'ls', '-q'), /^mine\nshown$/)
    assert.equal(await beside('volume', 'inspect', '-f', '{{.Scope}} {{.Status.shelf}}', 'shown'), 'global 3')
    assert.match(await beside('volume', 'create', '-d', name, 'broken'), /create broken: plugin ".*": VolumeDriver.Create: out of shelves/)
    assert.match(await beside('volume', 'create', '-d', 'local', 'mine'), /conflict: volume name must be unique/)
    assert.equal(await beside('volume', 'rm', 'mine'), 'mine')
    assert.ok(calls.includes('Remove'))
  } finally {
    server.closeAllConnections()
    server.close()
    execFileSync('rm', ['-f', socket])
  }
})
