import { randomInt } from 'node:crypto'

const moods = ['agile', 'amber', 'autumn', 'bold', 'brave', 'breezy', 'bright', 'brisk', 'calm', 'candid', 'cheery', 'civil', 'clever', 'coastal', 'cosy', 'crisp', 'curious', 'daring', 'deft', 'eager', 'early', 'earnest', 'easy', 'fair', 'fleet', 'fond', 'frank', 'fresh', 'gentle', 'glad', 'golden', 'grand', 'hardy', 'hearty', 'honest', 'hopeful', 'humble', 'jolly', 'keen', 'kind', 'lively', 'loyal', 'lucid', 'lucky', 'mellow', 'merry', 'mild', 'modest', 'neat', 'nimble', 'noble', 'northern', 'patient', 'placid', 'plucky', 'polite', 'proud', 'quick', 'quiet', 'ready', 'robust', 'salty', 'serene', 'sharp', 'silver', 'sincere', 'smooth', 'snug', 'sober', 'sound', 'spry', 'steady', 'stout', 'sunny', 'swift', 'tidal', 'tidy', 'tranquil', 'trim', 'true', 'upbeat', 'vivid', 'warm', 'wise', 'witty', 'young', 'zesty']
const vessels = ['ark', 'barge', 'bark', 'barque', 'brig', 'buoy', 'canoe', 'caravel', 'carrack', 'catamaran', 'clipper', 'cog', 'coracle', 'corvette', 'currach', 'cutter', 'dhow', 'dinghy', 'dory', 'dredger', 'felucca', 'ferry', 'flyboat', 'freighter', 'frigate', 'galleon', 'galley', 'galliot', 'gig', 'gondola', 'hulk', 'hydrofoil', 'icebreaker', 'junk', 'kayak', 'keelboat', 'ketch', 'knarr', 'launch', 'lighter', 'liner', 'longship', 'lugger', 'outrigger', 'packet', 'pilot', 'pinnace', 'pontoon', 'proa', 'punt', 'raft', 'sampan', 'schooner', 'scow', 'shallop', 'skiff', 'sloop', 'smack', 'steamer', 'tanker', 'tender', 'trawler', 'trireme', 'trimaran', 'tug', 'whaler', 'wherry', 'xebec', 'yacht', 'yawl']

/** A name that is free: a mood and a vessel, with a number once the plain ones are often taken. */
export function generateName(free: (name: string) => boolean): string {
  for (let tries = 0; ; tries++) {
    const plain = `${moods[randomInt(moods.length)]}_${vessels[randomInt(vessels.length)]}`
    const name = tries < 5 ? plain : `${plain}${randomInt(10 ** Math.min(tries - 3, 9))}`
    if (free(name)) return name
  }
}
