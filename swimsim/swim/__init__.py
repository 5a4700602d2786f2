"""SWIM and Lifeguard: who is alive?"""
