import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isKind } from '../lib/errors.ts'
import { parseManifest, referencesOf, types } from './manifest.ts'

const digest = (hex: string): string => `sha256:${hex.repeat(64)}`
const config = { mediaType: types.ociConfig, digest: digest('a'), size: 1 }
const layer = { mediaType: types.dockerLayer, digest: digest('b'), size: 2 }
const image = { schemaVersion: 2, mediaType: types.ociManifest, config, layers: [layer] }

test('manifests of images and indexes are read, with what they refer to', () => {
  const read = parseManifest(JSON.stringify(image), `${types.ociManifest}; charset=utf-8`)
  assert.deepEqual(referencesOf(read).map((descriptor) => descriptor.digest), [digest('a'), digest('b')])
  const { mediaType: _none, ...bare } = image
  assert.equal(parseManifest(JSON.stringify(bare), types.dockerManifest).mediaType, types.dockerManifest)
  assert.equal(parseManifest(JSON.stringify(bare), 'text/plain').mediaType, types.ociManifest)
  const index = parseManifest(JSON.stringify({ schemaVersion: 2, manifests: [{ ...config, platform: { os: 'linux', architecture: 'arm', variant: 'v7' } }] }), types.dockerList)
  assert.equal(index.kind === 'index' && index.manifests[0]!.platform!.variant, 'v7')
})

test('a manifest that lies, or is none, is refused in words', () => {
  const refused = (value: unknown, contentType = '', text = JSON.stringify(value)): string => {
    try {
      parseManifest(text, contentType)
    } catch (error) {
      assert.ok(isKind(error, 'invalid') || isKind(error, 'unsupported'))
      return error.message
    }
    throw new Error('it was read')
  }
  assert.match(refused(image, types.dockerManifest), /served as .*v2\+json, but says that it is .*oci\.image\.manifest/)
  assert.match(refused({ ...image, manifests: [] }), /it has what no .* has/)
  assert.match(refused({ schemaVersion: 2, mediaType: types.ociIndex, manifests: [], layers: [] }), /it has what no/)
  assert.match(refused({ schemaVersion: 1, fsLayers: [] }), /schema 1 is not supported/)
  assert.match(refused({ ...image, schemaVersion: 3 }), /unsupported schemaVersion 3/)
  assert.match(refused({ ...image, layers: [{ ...layer, size: -1 }] }), /layers\[0\] has no size/)
  assert.match(refused({ ...image, layers: [{ ...layer, size: 1e300 }] }), /has no size/)
  assert.match(refused({ ...image, config: { ...config, digest: 'sha256:../../x' } }), /config: .*digest/)
  assert.match(refused({ ...image, config: undefined }), /config is no descriptor/)
  assert.match(refused({ ...image, layers: {} }), /layers is no list/)
  assert.match(refused({ ...image, mediaType: 'application/x' }), /unsupported manifest media type/)
  for (const text of ['', '[]', 'null', '{', '"x"', '<html>']) assert.match(refused(undefined, '', text), /invalid manifest/)
})
