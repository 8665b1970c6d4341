import { mount } from 'svelte'
import './app.css'
import Panel from './Panel.svelte'
import { upgrade } from './upgrade.svelte'

mount(Panel, { target: document.getElementById('panel')! })
upgrade.begin()
