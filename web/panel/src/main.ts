import { mount } from 'svelte'
import './app.css'
import Panel from './Panel.svelte'

mount(Panel, { target: document.getElementById('panel')! })
